;; A component with a handler of another package.
(component
  (core module $m (func (export "describe")))
  (core instance $i (instantiate $m))
  (func $describe (canon lift (core func $i "describe")))
  (instance $handler (export "describe" (func $describe)))
  (export "somebody:else/handler@0.1.0" (instance $handler)))
