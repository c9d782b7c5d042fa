// SPDX-License-Identifier: Apache-2.0

// Command wirecheck compares a descriptor set (protoc --include_imports --descriptor_set_out) with the CSI
// descriptor that the specification's own Go package carries: services, methods, messages, fields, numbers,
// types, oneofs and enum values. Options and comments don't travel on the wire and are left out. It prints TAP.
package main

import (
	"fmt"
	"os"
	"sort"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// facts holds one line for every fact of the wire.
type facts map[string]bool

func (f facts) add(format string, args ...any) { f[fmt.Sprintf(format, args...)] = true }

func (f facts) file(fd protoreflect.FileDescriptor) {
	f.add("package %s, syntax %s", fd.Package(), fd.Syntax())
	for i := range fd.Services().Len() {
		f.service(fd.Services().Get(i))
	}
	f.messages(fd.Messages())
	f.enums(fd.Enums())
}

func (f facts) service(s protoreflect.ServiceDescriptor) {
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		f.add("rpc %s(%s%s) returns (%s%s)", m.FullName(), stream(m.IsStreamingClient()), m.Input().FullName(),
			stream(m.IsStreamingServer()), m.Output().FullName())
	}
}

func stream(on bool) string {
	if on {
		return "stream "
	}
	return ""
}

func (f facts) messages(list protoreflect.MessageDescriptors) {
	for i := range list.Len() {
		m := list.Get(i)
		f.add("message %s, map entry %v", m.FullName(), m.IsMapEntry())
		for k := range m.Fields().Len() {
			f.field(m.Fields().Get(k))
		}
		f.messages(m.Messages())
		f.enums(m.Enums())
	}
}

func (f facts) field(fd protoreflect.FieldDescriptor) {
	kind, oneof := fd.Kind().String(), ""
	if m := fd.Message(); m != nil {
		kind += " " + string(m.FullName())
	}
	if e := fd.Enum(); e != nil {
		kind += " " + string(e.FullName())
	}
	if o := fd.ContainingOneof(); o != nil {
		oneof = ", oneof " + string(o.Name())
	}
	f.add("field %s = %d, %s %s, json %s%s", fd.FullName(), fd.Number(), fd.Cardinality(), kind, fd.JSONName(), oneof)
}

func (f facts) enums(list protoreflect.EnumDescriptors) {
	for i := range list.Len() {
		e := list.Get(i)
		for k := range e.Values().Len() {
			v := e.Values().Get(k)
			f.add("enum %s: %s = %d", e.FullName(), v.Name(), v.Number())
		}
	}
}

func load(path string) (protoreflect.FileDescriptor, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(data, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	return files.FindFileByPath("csi.proto")
}

// report prints one TAP line and what only one side has.
func report(n int, name string, have, want facts) bool {
	var missing []string
	for line := range have {
		if !want[line] {
			missing = append(missing, line)
		}
	}
	sort.Strings(missing)
	verdict := "ok"
	if len(missing) > 0 {
		verdict = "not ok"
	}
	fmt.Printf("%s %d - %s (%d facts)\n", verdict, n, name, len(have))
	for _, line := range missing {
		fmt.Printf("# %s\n", line)
	}
	return len(missing) == 0
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: wirecheck DESCRIPTOR_SET")
		os.Exit(2)
	}
	fd, err := load(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "wirecheck: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	ours, published := facts{}, facts{}
	ours.file(fd)
	published.file(csi.File_csi_proto)
	fmt.Println("1..2")
	a := report(1, "everything published is in csi/proto/csi.proto", published, ours)
	b := report(2, "nothing in csi/proto/csi.proto is ours alone", ours, published)
	if !a || !b {
		os.Exit(1)
	}
}
