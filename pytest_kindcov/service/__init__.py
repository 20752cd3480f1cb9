"""From a Go package to a URL: build, image, manifests, deploy, forward."""
