// Package azuread refuses any `azuread` settings: the client of that cloud is
// large, and no test signs in there.
package azuread

import (
	"errors"
	"net/http"
)

var errLeftOut = errors.New("azuread is left out of this build of Prometheus")

// AzureADConfig cannot be configured.
type AzureADConfig struct{}

// UnmarshalYAML returns an error.
func (*AzureADConfig) UnmarshalYAML(func(any) error) error { return errLeftOut }

// NewAzureADRoundTripper returns an error.
func NewAzureADRoundTripper(*AzureADConfig, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errLeftOut
}
