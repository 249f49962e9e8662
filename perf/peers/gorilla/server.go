// A broadcast and echo server on gorilla/websocket, tuned as far as the library goes.
//
//	peer-gorilla PORT       /echo echoes; every other path broadcasts to everybody, the sender included
//
// As in the library's chat example a goroutine per connection writes what its channel has; a message is one prepared
// frame for all. gorilla writes each frame at once, so its connection is one that holds them back until Flush.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// Messages that a slow subscriber may be behind before it is dropped.
	lagMessagesMax   = 4096
	writeBufferBytes = 64 << 10
	messageBytesMax  = 16 << 20
	writeTimeout     = 10 * time.Second
)

// held gathers what is written until flush, or until its buffer is full.
type held struct {
	net.Conn
	mu  sync.Mutex // the reader's goroutine answers pings
	out *bufio.Writer
	in  *bufio.Reader
}

func (h *held) Write(bytes []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(bytes)
}

func (h *held) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Flush()
}

// holding hands the upgrader a held connection; net has set TCP_NODELAY on the one below.
type holding struct {
	http.ResponseWriter
	conn *held
}

func (h *holding) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := h.ResponseWriter.(http.Hijacker).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &held{Conn: conn, out: bufio.NewWriterSize(conn, writeBufferBytes), in: both.Reader}
	return h.conn, both, nil
}

type channel chan *websocket.PreparedMessage

var (
	everybody = map[channel]struct{}{}
	mu        sync.Mutex
	upgrader  = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
)

func serve(writer http.ResponseWriter, request *http.Request) {
	holding := &holding{ResponseWriter: writer}
	socket, err := upgrader.Upgrade(holding, request, nil)
	if err != nil {
		log.Print(err)
		return
	}
	conn := holding.conn
	defer conn.Close()
	socket.SetReadLimit(messageBytesMax)
	socket.SetPingHandler(func(payload string) error {
		if err := socket.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		return conn.flush()
	})
	isEcho := request.URL.Path == "/echo"
	heard := make(channel, lagMessagesMax)
	if !isEcho {
		// Before the 101 leaves: who has it hears everything.
		mu.Lock()
		everybody[heard] = struct{}{}
		mu.Unlock()
		defer leave(heard)
	}
	if err := conn.flush(); err != nil {
		return
	}
	if isEcho {
		echo(socket, conn)
	} else {
		go write(socket, conn, heard)
		read(socket)
	}
	conn.flush() // the Close that the library has answered with
}

// echo flushes once all that was received has been answered.
func echo(socket *websocket.Conn, conn *held) {
	for {
		kind, message, err := socket.ReadMessage()
		if err == nil {
			err = socket.WriteMessage(kind, message)
		}
		if err == nil && conn.in.Buffered() == 0 {
			err = conn.flush()
		}
		if err != nil {
			return
		}
	}
}

func read(socket *websocket.Conn) {
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil {
			return
		}
		prepared, err := websocket.NewPreparedMessage(kind, message)
		if err != nil {
			return
		}
		publish(prepared)
	}
}

func publish(prepared *websocket.PreparedMessage) {
	mu.Lock()
	defer mu.Unlock()
	for heard := range everybody {
		select {
		case heard <- prepared:
		default:
			delete(everybody, heard)
			close(heard)
		}
	}
}

// write gives one flush to all that is there.
func write(socket *websocket.Conn, conn *held, heard channel) {
	defer conn.Close()
	for prepared := range heard {
		err := socket.WritePreparedMessage(prepared)
		for more := len(heard); more > 0 && err == nil; more-- {
			if prepared, open := <-heard; open {
				err = socket.WritePreparedMessage(prepared)
			}
		}
		if err != nil || conn.flush() != nil {
			return
		}
	}
}

func leave(heard channel) {
	mu.Lock()
	defer mu.Unlock()
	if _, here := everybody[heard]; here {
		delete(everybody, heard)
		close(heard)
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peer-gorilla PORT")
		os.Exit(2)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "Listening on", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}
