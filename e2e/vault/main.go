// SPDX-License-Identifier: Apache-2.0

// vault-testserver is a HashiCorp Vault core with the engines and the login methods that Coffer uses, on loopback over
// TLS: what the tests call the real Vault. It is for tests only: memory is not locked, and it refuses any other
// address. Initialising, unsealing, audit devices and mounts are done through the API, as in production.
//
// The first line on stdout is its URL. SIGHUP reads certificate and key again; SIGTERM and SIGINT end it.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	metrics "github.com/armon/go-metrics"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault-plugin-auth-jwt"
	"github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/builtin/plugin"
	"github.com/hashicorp/vault/command/server"
	"github.com/hashicorp/vault/helper/metricsutil"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// catalog is where Vault's core looks up what a mount's type means.
type catalog map[consts.PluginType]map[string]logical.Factory

var compiledIn = catalog{
	consts.PluginTypeCredential: {
		"approle":    approle.Factory,
		"cert":       cert.Factory,
		"jwt":        jwtauth.Factory,
		"kubernetes": kubeauth.Factory,
	},
	consts.PluginTypeSecrets: {
		"kv":      kv.Factory,
		"pki":     pki.Factory,
		"transit": transit.Factory,
	},
}

func (c catalog) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := c[kind][name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (c catalog) Contains(name string, kind consts.PluginType) bool {
	_, found := c[kind][name]
	return found
}

func (c catalog) Keys(kind consts.PluginType) []string {
	names := make([]string, 0, len(c[kind]))
	for name := range c[kind] {
		names = append(names, name)
	}
	return names
}

func (c catalog) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, c.Contains(name, kind)
}

func (c catalog) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

type options struct {
	listen, storage, certificate, key, level string
}

func parse() (options, error) {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback `address` to listen on; port 0 takes a free one")
	flag.StringVar(&o.storage, "storage", "", "`folder` that holds what Vault stores")
	flag.StringVar(&o.certificate, "tls-cert", "", "PEM `file` with the server's certificate")
	flag.StringVar(&o.key, "tls-key", "", "PEM `file` with its private key")
	flag.StringVar(&o.level, "log-level", "warn", "trace, debug, info, warn or error")
	flag.Parse()
	if flag.NArg() != 0 || o.storage == "" || o.certificate == "" || o.key == "" {
		return o, errors.New("-storage, -tls-cert and -tls-key are needed, and nothing but flags")
	}
	return o, nil
}

// listenOnLoopback takes the port before the core is made, which must know its own address.
func listenOnLoopback(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		listener.Close()
		return nil, fmt.Errorf("%s is no loopback address", address)
	}
	return listener, nil
}

// identity is the server's certificate, which can be replaced while it runs.
type identity struct {
	options
	pair atomic.Pointer[tls.Certificate]
}

func (i *identity) load() error {
	pair, err := tls.LoadX509KeyPair(i.certificate, i.key)
	if err == nil {
		i.pair.Store(&pair)
	}
	return err
}

// tlsConfig asks for a client's certificate without insisting on one, as Vault does: auth/cert looks at it.
func (i *identity) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.pair.Load(), nil },
	}
}

func newCore(o options, url string, listener *configutil.Listener, logger hclog.Logger) (*vault.Core, error) {
	storage, err := file.NewFileBackend(map[string]string{"path": o.storage}, logger)
	if err != nil {
		return nil, err
	}
	shared := &configutil.SharedConfig{DisableMlock: true, Listeners: []*configutil.Listener{listener}}
	return vault.NewCore(&vault.CoreConfig{
		BuiltinRegistry:    compiledIn,
		Physical:           storage,
		StorageType:        "file",
		LogicalBackends:    map[string]logical.Factory{"plugin": plugin.Factory, "kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"plugin": plugin.Factory},
		AuditBackends:      map[string]audit.Factory{"file": auditFile},
		Logger:             logger,
		LogLevel:           o.level,
		AllLoggers:         []hclog.Logger{logger},
		// sys/metrics would dereference a nil pointer without it
		MetricsHelper: metricsutil.NewMetricsHelper(metrics.NewInmemSink(10*time.Second, time.Minute), false),
		DisableMlock:  true,
		RedirectAddr:  url,
		RawConfig:     &server.Config{SharedConfig: shared},
	})
}

// serve returns when the server failed or a signal ended it.
func serve(s *http.Server, listener net.Listener, core *vault.Core, own *identity) error {
	failed := make(chan error, 1)
	go func() { failed <- s.ServeTLS(listener, "", "") }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	for {
		select {
		case err := <-failed:
			return err
		case got := <-signals:
			if got == syscall.SIGHUP {
				if err := own.load(); err != nil {
					fmt.Fprintln(os.Stderr, "vault-testserver: keeps its certificate:", err)
				}
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return errors.Join(s.Shutdown(ctx), core.Shutdown())
		}
	}
}

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	own := &identity{options: o}
	if err := own.load(); err != nil {
		return err
	}
	listener, err := listenOnLoopback(o.listen)
	if err != nil {
		return err
	}
	url := "https://" + listener.Addr().String()
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.LevelFromString(o.level), Output: os.Stderr})
	settings := &configutil.Listener{
		Type:               "tcp",
		Address:            listener.Addr().String(),
		MaxRequestSize:     vaulthttp.DefaultMaxRequestSize,
		MaxRequestDuration: vault.DefaultMaxRequestDuration,
	}
	limitJSON(settings)
	core, err := newCore(o, url, settings, logger)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: settings}),
		TLSConfig:         own.tlsConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	fmt.Println(url)
	return serve(s, listener, core, own)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vault-testserver:", err)
		os.Exit(1)
	}
}
