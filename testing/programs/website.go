// An HTTP server, which Go runs with several threads that wait at one epoll instance. With a certificate and a key it speaks TLS,
// and HTTP/2.
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
	if len(os.Args) > 3 {
		fmt.Println(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], nil))
	}
	fmt.Println(http.ListenAndServe(os.Args[1], nil))
}
