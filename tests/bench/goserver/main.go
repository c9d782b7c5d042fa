// SPDX-License-Identifier: Apache-2.0

// bare-csi: a CSI server that does nothing but answer: Identity, and ListVolumes from a table in memory. No interceptor,
// no log, no disk. bare-csi SOCKET ENTRIES POOL-ID-PREFIX.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

type entry struct {
	id, uuid string
	size     int64
}

type server struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	table []entry
}

func (*server) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: "csi.coffer.dev", VendorVersion: "0.1.0"}, nil
}

// The same fields that coffer-controller gives for each volume.
func (s *server) ListVolumes(context.Context, *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	reply := &csi.ListVolumesResponse{Entries: make([]*csi.ListVolumesResponse_Entry, 0, len(s.table))}
	for _, e := range s.table {
		reply.Entries = append(reply.Entries, &csi.ListVolumesResponse_Entry{Volume: &csi.Volume{
			VolumeId:      e.id,
			CapacityBytes: e.size,
			VolumeContext: map[string]string{"tenant": "lab", "uuid": e.uuid, "kms": "lab", "keySource": "vault"},
			AccessibleTopology: []*csi.Topology{
				{Segments: map[string]string{"topology.csi.coffer.dev/node": "node-1"}}},
		}})
	}
	return reply, nil
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: bare-csi SOCKET ENTRIES ID-PREFIX")
	}
	entries, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatalf("bare-csi: %q is no number of entries", os.Args[2])
	}
	s := &server{}
	for i := range entries {
		s.table = append(s.table, entry{
			id:   fmt.Sprintf("%s.%032x", os.Args[3], i),
			uuid: fmt.Sprintf("00000000-0000-4000-8000-%012x", i),
			size: 16 << 20,
		})
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatalf("bare-csi: %v", err)
	}
	g := grpc.NewServer()
	csi.RegisterIdentityServer(g, s)
	csi.RegisterControllerServer(g, s)
	log.Fatal(g.Serve(listener))
}
