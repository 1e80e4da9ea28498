;; A component built for a later, incompatible version of the contract.
(component
  (core module $m (func (export "describe")))
  (core instance $i (instantiate $m))
  (func $describe (canon lift (core func $i "describe")))
  (instance $handler (export "describe" (func $describe)))
  (export "handshake:step/handler@9.0.0" (instance $handler)))
