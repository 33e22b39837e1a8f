;; Gives a command of WASI 0.3 the first of its directories alone, for the programs of test suites that want one: here
;; it has one directory by two names. `host/tests/bank` composes the command with it.
(component
  (import "wasi:filesystem/types@0.3.0" (instance $types (export "descriptor" (type (sub resource)))))
  (alias export $types "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.3.0" (instance $all
    (alias outer 1 $descriptor (type $outer))
    (export "descriptor" (type $d (eq $outer)))
    (type $own (own $d))
    (export "get-directories" (func (result (list (tuple $own string)))))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "all" (func $all (param i32)))
    ;; The first directory of the list: its length is at most 1.
    (func (export "get") (result i32)
      (call $all (i32.const 8))
      (if (i32.gt_u (i32.load (i32.const 12)) (i32.const 1)) (then (i32.store (i32.const 12) (i32.const 1))))
      (i32.const 8)))
  (core module $libc
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 64))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3)))))
  (core instance $libc (instantiate $libc))
  (core func $lowered (canon lower (func $all "get-directories")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $libc "memory")) (export "all" (func $lowered))))))
  (type $own (own $descriptor))
  (func $get (result (list (tuple $own string)))
    (canon lift (core func $i "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (component $shaped
    (import "d" (type $d (sub resource)))
    (type $own (own $d))
    (import "get" (func $get (result (list (tuple $own string)))))
    (export $e "descriptor" (type $d))
    (type $own2 (own $e))
    (export "get-directories" (func $get) (func (result (list (tuple $own2 string))))))
  (instance $exported (instantiate $shaped (with "d" (type $descriptor)) (with "get" (func $get))))
  (export "wasi:filesystem/preopens@0.3.0" (instance $exported)))
