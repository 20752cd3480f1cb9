package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What a hostile pod may leave in its directory: kind by kind.
func junk(directory, kind string) error {
	metas, err := filepath.Glob(directory + "/covmeta.*")
	if err != nil || len(metas) == 0 {
		return fmt.Errorf("no meta data in %s: %v", directory, err)
	}
	hash := strings.TrimPrefix(filepath.Base(metas[0]), "covmeta.")
	meta, err := os.ReadFile(metas[0])
	if err != nil {
		return err
	}
	counters := func(number int) string {
		return fmt.Sprintf("%s/covcounters.%s.%d.1", directory, hash, 1000+number)
	}
	other := directory + "/covmeta." + strings.Repeat("f", 32)
	write := func(name string, data []byte) {
		if failed := os.WriteFile(name, data, 0o644); failed != nil && err == nil {
			err = failed
		}
	}
	try := func(failed error) {
		if failed != nil && err == nil {
			err = failed
		}
	}
	switch kind {
	case "truncated":
		write(other, meta[:len(meta)/2])
		write(counters(1), []byte("\x00\x63\x77\x6d\x01\x00"))
		write(counters(2), nil)
	case "garbage":
		noise := make([]byte, 1<<16)
		rand.Read(noise)
		write(other, noise)
		write(counters(1), noise)
		write(directory+"/covmeta."+strings.Repeat("e", 32), meta) // not what its name says
	case "overwritten":
		write(metas[0], meta[:len(meta)/2])
	case "names":
		for _, name := range []string{
			"covcounters.\n..", "covmeta." + hash + "\n", "-rf", "--checkpoint-action=exec=sh",
			"covmeta.\xff\xfe", "$(touch x)", "covcounters." + hash + ".1.1;x", strings.Repeat("n", 255),
			"state.json", "covmeta." + hash + "\r", "\x1b[31mred",
		} {
			write(directory+"/"+name, []byte("{}"))
		}
		try(os.MkdirAll(directory+"/"+strings.Repeat("d/", 100), 0o755))
	case "links":
		try(os.Symlink("/etc/shadow", other))
		try(os.Symlink("../../../../../etc", counters(1)))
		try(os.Symlink(directory, directory+"/loop"))
		// A second name for the true one: either may be the first that is found.
		for i := 0; i < 20; i++ {
			try(os.Link(metas[0], fmt.Sprintf("%s/covmeta.%032x", directory, i)))
		}
	case "special":
		try(syscall.Mkfifo(other, 0o666))
		try(syscall.Mkfifo(counters(1), 0o666))
		try(syscall.Mknod(counters(2), syscall.S_IFCHR|0o666, 1<<8|5)) // /dev/zero
		try(os.Mkdir(counters(3), 0o755))
	case "big":
		for _, name := range []string{other, counters(1), directory + "/core"} {
			write(name, nil)
			try(os.Truncate(name, 1<<30))
		}
	case "many":
		for i := 0; i < 25_000; i++ {
			write(counters(i), nil)
		}
	}
	return err
}
