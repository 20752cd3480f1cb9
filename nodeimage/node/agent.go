package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	conflist = "/etc/cni/net.d/10-kindcov.conflist"
	// Routes of ours carry this protocol number, so that stale ones are told from everybody else's.
	routeProtocol = 157
	masqChain     = "KINDCOV-MASQ"
	// Also without any event things are looked at this often: somebody may have flushed routes or rules.
	resync = 30 * time.Second
)

// toldIgnored keeps the log from repeating itself at every resync.
var toldIgnored bool

// runAgent is the pod network of one node. It writes the CNI configuration for the node's own pod CIDR, keeps a route to
// the pod CIDR of every other node through that node's address, and hides pods behind the node's address towards
// everything that is not a pod. All nodes share one network of the engine, so plain routes do; IPv4 only.
func runAgent() int {
	ctx := context.Background()
	node := os.Getenv("NODE_NAME")
	client, err := newClient(os.Getenv("KUBECONFIG"))
	if err != nil {
		klog.ErrorS(err, "no client for the API server")
		return 1
	}
	usePreferredIPTables()
	factory := informers.NewSharedInformerFactory(client, resync)
	nodes := factory.Core().V1().Nodes()
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default: // one is pending already, it will see this change too
		}
	}
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		UpdateFunc: func(any, any) { poke() },
		DeleteFunc: func(any) { poke() },
	}); err != nil {
		klog.ErrorS(err, "cannot watch nodes")
		return 1
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	last := ""
	for {
		all, err := nodes.Lister().List(labels.Everything())
		if err == nil {
			err = apply(node, os.Getenv("POD_SUBNET"), all)
		}
		switch {
		case err == nil && last != "ok":
			klog.InfoS("pod network is up", "node", node, "nodes", len(all))
			last = "ok"
		case err != nil && err.Error() != last:
			klog.ErrorS(err, "pod network is not complete; trying again")
			last = err.Error()
		}
		timeout := resync
		if err != nil {
			timeout = time.Second
		}
		select {
		case <-wake:
		case <-time.After(timeout):
		}
	}
}

// newClient speaks as the pod's service account, but to the address that the kubelet uses: the Service address works only
// after kube-proxy, which may come later.
func newClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	kubelet, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	for _, cluster := range kubelet.Clusters {
		config.Host = cluster.Server
	}
	return kubernetes.NewForConfig(config)
}

// apply brings this node to the wished state. It changes nothing where that holds already.
func apply(self, podSubnets string, nodes []*core.Node) error {
	podSubnet := ""
	var ignored []string
	for _, s := range strings.Split(podSubnets, ",") {
		if ip, _, err := net.ParseCIDR(s); err == nil && ip.To4() != nil {
			podSubnet = s
		} else {
			ignored = append(ignored, s)
		}
	}
	if podSubnet == "" {
		return fmt.Errorf("no IPv4 pod subnet in %q: use ipFamily ipv4, or disableDefaultCNI and another CNI", podSubnets)
	}
	if len(ignored) > 0 && !toldIgnored {
		toldIgnored = true
		klog.InfoS("this pod network is IPv4 only: pods get no address of these subnets", "subnets", ignored)
	}
	wished := map[string]net.IP{} // pod CIDR -> node address
	var own string
	var errs []error
	for _, node := range nodes {
		cidr := podCIDR(node)
		switch address := internalIP(node); {
		case cidr == "":
			if node.Name == self {
				errs = append(errs, fmt.Errorf("node %s has no IPv4 pod CIDR yet", self))
			}
		case node.Name == self:
			own = cidr
		case address != nil:
			wished[cidr] = address
		}
	}
	if own != "" {
		errs = append(errs, writeConflist(own))
	}
	return errors.Join(append(errs, keepRoutes(wished), keepMasquerade(podSubnet))...)
}

func podCIDR(node *core.Node) string {
	for _, cidr := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if ip, _, err := net.ParseCIDR(cidr); err == nil && ip.To4() != nil {
			return cidr
		}
	}
	return ""
}

func internalIP(node *core.Node) net.IP {
	for _, address := range node.Status.Addresses {
		if ip := net.ParseIP(address.Address).To4(); address.Type == core.NodeInternalIP && ip != nil {
			return ip
		}
	}
	return nil
}

// writeConflist writes the CNI configuration, whole or not at all: containerd reads it as soon as it is there.
func writeConflist(cidr string) error {
	content, err := json.MarshalIndent(map[string]any{
		"cniVersion": "0.3.1",
		"name":       "kindcov",
		"plugins": []any{
			map[string]any{
				"type":   "ptp",
				"ipMasq": false,
				"mtu":    uplinkMTU(),
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state", // tmpfs: after a restart of the node no pod has an address
					"routes":  []any{map[string]any{"dst": "0.0.0.0/0"}},
					"ranges":  []any{[]any{map[string]any{"subnet": cidr}}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(conflist); err == nil && string(old) == string(content) {
		return nil
	}
	if err := os.WriteFile(conflist+".tmp", content, 0o644); err != nil {
		return err
	}
	return os.Rename(conflist+".tmp", conflist)
}

// uplinkMTU is that of the interface with the default route, 1500 if there is none.
func uplinkMTU() int {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 1500
	}
	for _, route := range routes {
		if route.Dst == nil || route.Dst.IP.IsUnspecified() {
			if link, err := netlink.LinkByIndex(route.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return 1500
}

func keepRoutes(wished map[string]net.IP) error {
	filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}
	present, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	have := map[string]bool{}
	for _, route := range present {
		if gateway, ok := wished[route.Dst.String()]; ok && gateway.Equal(route.Gw) {
			have[route.Dst.String()] = true
		} else if err := netlink.RouteDel(&route); err != nil {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", route.Dst, err))
		}
	}
	for cidr, gateway := range wished {
		if have[cidr] {
			continue
		}
		_, dst, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		route := &netlink.Route{Dst: dst, Gw: gateway, Protocol: routeProtocol}
		if err := netlink.RouteReplace(route); err != nil {
			errs = append(errs, fmt.Errorf("route to %s by %s: %w", cidr, gateway, err))
		}
	}
	return errors.Join(errs...)
}

// keepMasquerade hides pods behind the node's address, except towards pods.
func keepMasquerade(podSubnet string) error {
	// -N fails where the chain exists; -C tells whether a rule does.
	_ = iptables("-N", masqChain)
	for _, rule := range [][]string{
		{masqChain, "-d", podSubnet, "-j", "RETURN"},
		{masqChain, "-m", "addrtype", "--dst-type", "LOCAL", "-j", "RETURN"},
		{masqChain, "-d", "224.0.0.0/4", "-j", "RETURN"},
		{masqChain, "-j", "MASQUERADE"},
		{"POSTROUTING", "-s", podSubnet, "-j", masqChain},
	} {
		if iptables(append([]string{"-C"}, rule...)...) == nil {
			continue
		}
		if err := iptables(append([]string{"-A"}, rule...)...); err != nil {
			return err
		}
	}
	return nil
}

func iptables(args ...string) error {
	args = append([]string{"-w", "5", "-t", "nat"}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "iptables", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("iptables %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// usePreferredIPTables puts the iptables of the flavour that the node uses first in PATH. The image has both, in two
// directories; the kubelet, which runs on the node itself, marks the right one with a chain.
func usePreferredIPTables() {
	flavour := "legacy"
	for _, candidate := range []string{"nft", "legacy"} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		tool := filepath.Join("/usr/lib/iptables", candidate, "iptables-save")
		out, err := exec.CommandContext(ctx, tool, "-t", "mangle").Output()
		cancel()
		if err == nil && strings.Contains(string(out), ":KUBE-IPTABLES-HINT") {
			flavour = candidate
			break
		}
	}
	klog.InfoS("iptables", "flavour", flavour)
	path := "/usr/lib/iptables/" + flavour + ":" + os.Getenv("PATH")
	if err := os.Setenv("PATH", path); err != nil {
		klog.ErrorS(err, "cannot set PATH")
	}
}
