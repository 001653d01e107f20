-- Asks for a run at once. Any new value of the annotation does; the time says when somebody asked.
local os = require("os")

if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["meshprobe.dev/requestedAt"] = os.date("!%Y-%m-%dT%XZ")
return obj
