-- Which actions Argo CD offers on an HTTPSMeshProbe: a suspended probe answers no request for a run.
local suspended = obj.spec.suspend == true

return {
  ["run-now"] = {displayName = "Run now", iconClass = "fa fa-fw fa-play", disabled = suspended},
  ["suspend"] = {displayName = "Suspend", iconClass = "fa fa-fw fa-pause", disabled = suspended},
  ["resume"] = {displayName = "Resume", iconClass = "fa fa-fw fa-redo", disabled = not suspended},
}
