// Command coredns is CoreDNS with few plugins: those of the Corefile that kubeadm writes, and the four that people most
// often add to it (log, hosts, rewrite, template).
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order is that in which CoreDNS chains the plugins.
	dnsserver.Directives = []string{
		"reload", "prometheus", "errors", "log", "health", "ready", "cache", "rewrite", "template", "loadbalance",
		"hosts", "kubernetes", "loop", "forward",
	}
	coremain.Run()
}
