// What an unwrap costs a client in Go: the standard library alone.
module coffer.dev/tests/bench/govault

go 1.25
