// Package plugins names the service discoveries of the test's Prometheus,
// instead of all those that Prometheus has, whose clients are most of its
// dependencies. Static targets need none.
package plugins

import (
	// Registers file_sd_configs.
	_ "github.com/prometheus/prometheus/discovery/file"
)
