// An HTTP server, which Go runs with several threads that wait at one epoll instance.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "you want %s", r.URL.Path) })
	http.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		count, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", count, err)
	})
	fmt.Println(http.ListenAndServe(os.Args[1], nil))
}
