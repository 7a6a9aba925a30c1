// golist lists the members of tar archives as Go's archive/tar sees them, in the format of
// `unpack-differential list`.
package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

const largest = 1 << 20

func escape(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		switch {
		case b == '\t':
			out.WriteString(`\t`)
		case b == '\n':
			out.WriteString(`\n`)
		case b == '\r':
			out.WriteString(`\r`)
		case b == '"' || b == '\'' || b == '\\':
			out.WriteByte('\\')
			out.WriteByte(b)
		case b >= 0x20 && b < 0x7f:
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, `\x%02x`, b)
		}
	}
	return out.String()
}

func list(path string, out io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		kinds := map[byte]string{
			tar.TypeReg: "file", '7': "file", 'S': "file", tar.TypeLink: "link",
			tar.TypeSymlink: "symlink", tar.TypeChar: "char", tar.TypeBlock: "block",
			tar.TypeDir: "dir", tar.TypeFifo: "fifo",
		}
		kind, known := kinds[header.Typeflag]
		if !known {
			kind = "other"
		}
		size := header.Size
		if kind != "file" {
			size = 0
		}
		digest := "-"
		if size <= largest {
			hash := sha256.New()
			if kind == "file" {
				if _, err := io.Copy(hash, reader); err != nil {
					return err
				}
			}
			digest = fmt.Sprintf("%x", hash.Sum(nil))
		}
		var xattrs []string
		for key, value := range header.PAXRecords {
			if name, found := strings.CutPrefix(key, "SCHILY.xattr."); found {
				xattrs = append(xattrs, name+"\x00"+value)
			}
		}
		sort.Strings(xattrs)
		for at, xattr := range xattrs {
			name, value, _ := strings.Cut(xattr, "\x00")
			xattrs[at] = escape(name) + "=" + escape(value)
		}
		fmt.Fprintf(out, "%s %o %d:%d %d %d.%09d %d:%d \"%s\" \"%s\" [%s] %s\n",
			kind, uint64(header.Mode), header.Uid, header.Gid, size,
			header.ModTime.Unix(), header.ModTime.Nanosecond(),
			header.Devmajor, header.Devminor,
			escape(header.Name), escape(header.Linkname), strings.Join(xattrs, ","), digest)
	}
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, path := range os.Args[1:] {
		fmt.Fprintf(out, "== %s\n", path)
		if err := list(path, out); err != nil {
			fmt.Fprintf(out, "ERROR %v\n", err)
		}
	}
}
