package prometheusremotewrite

import "github.com/prometheus/otlptranslator"

// normalizeLabel calls the function that the packaged otlptranslator has instead
// of otlptranslator.NormalizeLabel, with the options that yield the same names.
// That function has an error: for a name that is empty or nothing but
// underscores.
func normalizeLabel(label string) string {
	namer := otlptranslator.LabelNamer{
		UnderscoreLabelSanitization: true,
		PreserveMultipleUnderscores: true,
	}
	name, err := namer.Build(label)
	if err != nil {
		panic(err) // The HTTP server catches it and closes the connection.
	}
	return name
}
