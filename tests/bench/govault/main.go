// SPDX-License-Identifier: Apache-2.0

// govault: the requests that coffer-keyd makes for an unwrap, by net/http over the same TLS: nothing else. It says its
// process time. govault ADDRESS CA TOKEN-FILE PATH CIPHERTEXT CONTEXT COUNT PARALLEL.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		log.Fatalf("govault: %v", err)
	}
}

func read(path string) []byte {
	data, err := os.ReadFile(path)
	must(err)
	return data
}

// One client with at most eight kept connections, as coffer-keyd has.
func client(ca string) *http.Client {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(ca)) {
		log.Fatalf("govault: %s holds no certificate", ca)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		MaxConnsPerHost:     8,
		MaxIdleConnsPerHost: 8,
	}}
}

func unwrap(c *http.Client, url, token, ciphertext, context string) error {
	body, err := json.Marshal(map[string]string{"ciphertext": ciphertext, "context": context})
	if err != nil {
		return err
	}
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", token)
	request.Header.Set("X-Vault-Request", "true")
	reply, err := c.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	if err != nil || reply.StatusCode != 200 {
		return fmt.Errorf("status %d: %v", reply.StatusCode, err)
	}
	var answer struct{ Data struct{ Plaintext string } }
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(answer.Data.Plaintext)
	if err != nil || len(key) != 32 {
		return fmt.Errorf("no key of 32 bytes: %v", err)
	}
	return nil
}

func cpu() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func main() {
	if len(os.Args) != 9 {
		log.Fatal("usage: govault ADDRESS CA TOKEN-FILE PATH CIPHERTEXT CONTEXT COUNT PARALLEL")
	}
	a := os.Args[1:]
	count, err := strconv.Atoi(a[6])
	must(err)
	parallel, err := strconv.Atoi(a[7])
	must(err)
	c, url, token := client(a[1]), a[0]+"/v1/"+a[3], strings.TrimSpace(string(read(a[2])))
	must(unwrap(c, url, token, a[4], a[5])) // warm
	before, started := cpu(), time.Now()
	var wait sync.WaitGroup
	for i := range parallel {
		wait.Go(func() {
			for range count/parallel + (parallel-1-i+count%parallel)/parallel {
				must(unwrap(c, url, token, a[4], a[5]))
			}
		})
	}
	wait.Wait()
	must(json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"cpu_ns": (cpu() - before).Nanoseconds(), "wall_ns": time.Since(started).Nanoseconds()}))
}
