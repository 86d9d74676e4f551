// Package semconv has the names that Prometheus takes from a package that later
// Collectors no longer have. They come from the same version of the conventions
// in the OpenTelemetry API.
package semconv

import semconv "go.opentelemetry.io/otel/semconv/v1.6.1"

// Attributes that identify a service.
const (
	AttributeServiceInstanceID = string(semconv.ServiceInstanceIDKey)
	AttributeServiceName       = string(semconv.ServiceNameKey)
	AttributeServiceNamespace  = string(semconv.ServiceNamespaceKey)
)
