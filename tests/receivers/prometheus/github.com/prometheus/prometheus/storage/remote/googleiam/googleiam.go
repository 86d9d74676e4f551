// Package googleiam refuses any `google_iam` settings: the client of that cloud
// is large, and no test signs in there.
package googleiam

import (
	"errors"
	"net/http"
)

var errLeftOut = errors.New("google_iam is left out of this build of Prometheus")

// Config cannot be configured.
type Config struct{}

// UnmarshalYAML returns an error.
func (*Config) UnmarshalYAML(func(any) error) error { return errLeftOut }

// NewRoundTripper returns an error.
func NewRoundTripper(*Config, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errLeftOut
}
