// Package sigv4 refuses any `sigv4` settings: the client of that cloud is
// large, and no test signs in there.
package sigv4

import (
	"errors"
	"net/http"
)

var errLeftOut = errors.New("sigv4 is left out of this build of Prometheus")

// SigV4Config cannot be configured.
type SigV4Config struct{}

// UnmarshalYAML returns an error.
func (*SigV4Config) UnmarshalYAML(func(any) error) error { return errLeftOut }

// NewSigV4RoundTripper returns an error.
func NewSigV4RoundTripper(*SigV4Config, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errLeftOut
}
