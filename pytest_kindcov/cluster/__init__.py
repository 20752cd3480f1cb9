"""The Kind cluster: engine, nodes, kind itself and the Kubernetes API."""
