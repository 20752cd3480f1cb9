// Command coredns is CoreDNS with the plugins that the Corefile in deploy/ names; everything that they do is upstream's.
// `github.com/coredns/coredns` instead of "." in the conftest builds all of its plugins, in two minutes.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order is that in which CoreDNS chains the plugins.
	dnsserver.Directives = []string{
		"errors", "log", "health", "ready", "acl", "cache", "rewrite", "template", "loadbalance", "file",
	}
	coremain.Run()
}
