// Package docs holds the documentation against the repository: links and anchors, paths, commands and their flags, and the
// rights that docs/security.md explains. What pages say of the API is held against an API server in api/v1alpha1.
package docs
