// A Go program: goroutines, channels, maps, defer and recover, garbage collection.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
)

func guarded(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
	}()
	f()
	return nil
}

func main() {
	squares := make(chan int)
	go func() {
		for i := 0; i < 1000; i++ {
			squares <- i * i
		}
		close(squares)
	}()
	sum := 0
	for s := range squares {
		sum += s
	}
	fmt.Println("sum", sum)

	var nothing []int
	var null *strings.Builder
	fmt.Println(guarded(func() { fmt.Println(nothing[3]) }))
	fmt.Println(guarded(func() { null.Len() }))

	words := map[string]int{}
	for i := 0; i < 200000; i++ {
		words[fmt.Sprint("w", i%1000)]++
	}
	keys := make([]string, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	fmt.Println(len(keys), keys[0], words[keys[0]])
	fmt.Printf("%x\n", sha256.Sum256([]byte(strings.Repeat("go", 100000))))
	_, err := os.ReadFile("/nothing")
	fmt.Println(errors.Is(err, os.ErrNotExist))
	os.Exit(5)
}
