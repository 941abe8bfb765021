// A client of website.go: many requests at once over few connections. With a certificate it speaks TLS, and HTTP/2.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	transport := &http.Transport{MaxConnsPerHost: 4, ForceAttemptHTTP2: true}
	if len(os.Args) > 2 {
		certificate, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Println(err)
		}
		roots := x509.NewCertPool()
		fmt.Println("certificate:", roots.AppendCertsFromPEM(certificate))
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	client := &http.Client{Transport: transport}
	answers := make([]string, 40)
	var group sync.WaitGroup
	for n := range answers {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			path, body := fmt.Sprintf("/this/%d", n), io.Reader(nil)
			method := "GET"
			if n%4 == 0 {
				method, path, body = "POST", "/count", strings.NewReader(strings.Repeat("x", n*5000))
			}
			request, _ := http.NewRequest(method, os.Args[1]+path, body)
			response, err := client.Do(request)
			if err != nil {
				answers[n] = err.Error()
				return
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			answers[n] = fmt.Sprint(response.Proto, " ", response.StatusCode, " ", string(text), " ", err)
		}(n)
	}
	group.Wait()
	fmt.Println(strings.Join(answers, "\n"))
	_, err := client.Get("http://127.0.0.1:1/")
	fmt.Println(err)
}
