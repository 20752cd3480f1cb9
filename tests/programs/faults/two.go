//go:build two

package main

func other(name string) string {
	if name == "" {
		return "two"
	}
	return name
}

var build = other("")
