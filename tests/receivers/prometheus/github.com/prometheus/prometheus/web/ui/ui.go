// Package ui has no web page: the expression browser is not part of Debian's
// source. Prometheus answers with "Error opening React index.html".
package ui

import (
	"embed"
	"net/http"
)

// Assets holds no files.
var Assets = http.FS(embed.FS{})
