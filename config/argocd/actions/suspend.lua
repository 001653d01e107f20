-- Stops the probe's requests.
obj.spec.suspend = true
return obj
