// Package deltatocumulativeprocessor fails where `--enable-feature=otlp-deltatocumulative`
// makes Prometheus create the processor: Debian does not package it. Without
// that feature Prometheus does not touch it.
package deltatocumulativeprocessor

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
)

// NewFactory returns a factory that creates nothing.
func NewFactory() processor.Factory {
	settings := func() component.Config { return &struct{}{} }
	create := func(
		context.Context, processor.Settings, component.Config, consumer.Metrics,
	) (processor.Metrics, error) {
		return nil, errors.New("deltatocumulative is left out of this build of Prometheus")
	}
	return processor.NewFactory(
		component.MustNewType("deltatocumulative"),
		settings,
		processor.WithMetrics(create, component.StabilityLevelUndefined),
	)
}
