;; A component that needs an interface which no host of Handshake offers.
(component
  (import "handshake:step/shell@0.1.0" (instance
    (export "execute" (func (param "command" string) (result string))))))
