-- Lets the probe send requests again.
obj.spec.suspend = false
return obj
