package prober

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// capture says whether a connection ends within the own pod, where iptables leads what Envoy is to take.
type capture int

const (
	captureUnknown capture = iota
	captured
	uncaptured
)

// captureOf asks the kernel. The other end of a connection that Envoy took is a socket of the same network namespace,
// and so in the same table. It is looked through twice: a connection that still stands the second time stood the first
// time, and so did its other end, if it was there.
func captureOf(local, remote netip.AddrPort) capture {
	for range 2 {
		found := captureUnknown
		for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
			file, err := os.Open(table)
			if errors.Is(err, fs.ErrNotExist) {
				continue // there is no IPv6
			}
			if err != nil {
				return captureUnknown
			}
			limited := &io.LimitedReader{R: file, N: maxTableBytes}
			at := findSocket(limited, local, remote)
			file.Close()
			switch {
			case at == captured:
				return captured
			case limited.N == 0:
				return captureUnknown
			}
			found = max(found, at)
		}
		if found == captureUnknown {
			return captureUnknown
		}
	}
	return uncaptured
}

// maxTableBytes bounds what is read of the kernel's table, at 150 bytes a socket.
const maxTableBytes = 4 << 20

// findSocket looks for both ends of a connection: captured if the one that local is connected to is there, uncaptured if
// only local is, and stands. That the other end has closed its side does not take it out of the table.
func findSocket(table io.Reader, local, remote netip.AddrPort) capture {
	const established, closeWait = "01", "08"
	ours, theirs := procAddresses(local), procAddresses(remote)
	found := captureUnknown
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			continue
		}
		switch from, to := fields[1], fields[2]; {
		case to == ours[0] || to == ours[1]:
			return captured
		case (fields[3] == established || fields[3] == closeWait) && (from == ours[0] && to == theirs[0] || from == ours[1] && to == theirs[1]):
			found = uncaptured
		}
	}
	if lines.Err() != nil {
		return captureUnknown
	}
	return found
}

// procAddresses is how /proc/net/tcp and tcp6 write an address: words in the byte order of the machine.
func procAddresses(address netip.AddrPort) [2]string {
	var written [2]string
	if ip := address.Addr().Unmap(); ip.Is4() {
		bytes := ip.As4()
		written[0] = fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(bytes[:]), address.Port())
	}
	bytes := address.Addr().As16()
	for word := range 4 {
		written[1] += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(bytes[4*word:]))
	}
	written[1] += fmt.Sprintf(":%04X", address.Port())
	return written
}
