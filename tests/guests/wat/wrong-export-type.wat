;; A component whose handler has the right name and functions of the wrong types.
(component
  (core module $m
    (func (export "describe") (result i32) i32.const 7)
    (func (export "run") (param i32) (result i32) local.get 0))
  (core instance $i (instantiate $m))
  (func $describe (result u32) (canon lift (core func $i "describe")))
  (func $run (param "input" u32) (result u32) (canon lift (core func $i "run")))
  (instance $handler
    (export "describe" (func $describe))
    (export "run" (func $run)))
  (export "handshake:step/handler@0.1.0" (instance $handler)))
