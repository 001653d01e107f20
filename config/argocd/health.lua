-- The health of an HTTPSMeshProbe in Argo CD. A sync wave goes on at Healthy, waits at Progressing and Suspended, and
-- fails at Degraded. So whatever is not proved is not Healthy, what may come good by itself is waited for, and what
-- contradicts the declaration or needs a person is Degraded. Lua's string library is not there: it is off by default.

-- Why Ready can be False and yet turn True without anybody's help: a rollout under way, a node that is still to come.
local passing = {NoEndpoints = true, PodsFailing = true}

-- Only a run changes these, so that a run that was asked for is worth waiting for.
local judged = {Verified = true, Refuted = true, Undetermined = true}

-- status.lastHandledRequest holds no more of the annotation's value than this.
local longestRequest = 256

local function health(status, message)
  return {status = status, message = message}
end

local function conditionsByType(status)
  local found = {}
  for _, condition in ipairs(status.conditions or {}) do
    found[condition.type] = condition
  end
  return found
end

local function isTrue(condition)
  return condition ~= nil and condition.status == "True"
end

-- The value of the annotation that asks for a run, if that run has not ended yet.
local function awaitedRun(status)
  local annotations = obj.metadata.annotations or {}
  local requested = annotations["meshprobe.dev/requestedAt"]
  if requested == nil or requested == "" or #requested > longestRequest or requested == status.lastHandledRequest then
    return nil
  end
  return requested
end

local function assess()
  if obj.spec ~= nil and obj.spec.suspend == true then
    return health("Suspended", "no requests are sent while spec.suspend is true")
  end
  local status = obj.status or {}
  local conditions = conditionsByType(status)
  local ready = conditions.Ready
  if ready == nil or status.observedGeneration == nil or status.observedGeneration < 0 then
    return health("Progressing", "the operator has not looked at the probe yet")
  end
  -- What follows would speak of an older spec.
  if obj.metadata.generation ~= nil and status.observedGeneration ~= obj.metadata.generation then
    return health("Progressing", "the operator has not looked at the latest change of the spec yet")
  end
  if isTrue(conditions.Stalled) then
    return health("Degraded", conditions.Stalled.message)
  end
  if isTrue(conditions.Reconciling) then
    return health("Progressing", conditions.Reconciling.message)
  end
  local requested = awaitedRun(status)
  if requested ~= nil and judged[ready.reason] then
    return health("Progressing", "the run asked for by meshprobe.dev/requestedAt: " .. requested .. " has not ended yet")
  end
  if ready.status == "True" then
    return health("Healthy", ready.message)
  end
  if ready.status == "False" and not passing[ready.reason] then
    return health("Degraded", ready.message)
  end
  return health("Progressing", ready.message)
end

return assess()
