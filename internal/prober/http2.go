package prober

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// As much of HTTP/2 as one GET takes whose response is not read beyond its status (RFC 9113).
const (
	frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 1, 3, 4, 6, 7

	flagAck, flagEndStream, flagEndHeaders, flagPadded, flagPriority = 0x1, 0x1, 0x4, 0x8, 0x20

	frameHead    = 9
	maxFrame     = 16 << 10 // what a peer may send unless we allow more
	maxFrames    = 1000
	clientPreamb = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(head, stream), payload...)
}

// talkHTTP2 sends the request as the stream 1, and reads until its final response begins.
func talkHTTP2(conn io.Writer, reader *bufio.Reader, request *http.Request) (code int, writeErr, err error) {
	const enablePush, off = 2, 0
	fields := headerBlock(request)
	if len(fields) > maxFrame {
		return 0, nil, fmt.Errorf("%w: the request is too long", errNoHTTP2)
	}
	opening := append([]byte(clientPreamb), frame(frameSettings, 0, 0, []byte{0, enablePush, 0, 0, 0, off})...)
	_, writeErr = conn.Write(append(opening, frame(frameHeaders, flagEndStream|flagEndHeaders, 1, fields)...))
	for range maxFrames {
		var head [frameHead]byte
		if _, err := io.ReadFull(reader, head[:]); err != nil {
			return 0, writeErr, err
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if length > maxFrame {
			return 0, writeErr, fmt.Errorf("%w: a frame of %d bytes", errNoHTTP2, length)
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(reader, payload); err != nil {
			return 0, writeErr, err
		}
		stream := binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1)
		code, reply, err := takeFrame(head[3], head[4], stream, payload)
		if err != nil || code != 0 {
			return code, writeErr, err
		}
		if len(reply) > 0 {
			_, _ = conn.Write(reply)
		}
	}
	return 0, writeErr, fmt.Errorf("%w: %d frames without a response", errNoHTTP2, maxFrames)
}

// takeFrame is the status code of the final response, if the frame has it, and what is to be sent back.
func takeFrame(kind, flags byte, stream uint32, payload []byte) (code int, reply []byte, err error) {
	switch {
	case kind == frameSettings && flags&flagAck == 0:
		return 0, frame(frameSettings, flagAck, 0, nil), nil
	case kind == framePing && flags&flagAck == 0 && len(payload) == 8:
		return 0, frame(framePing, flagAck, 0, payload), nil
	case kind == frameGoAway && len(payload) >= 8 && binary.BigEndian.Uint32(payload)&(1<<31-1) < 1,
		kind == frameGoAway && len(payload) < 8:
		return 0, nil, fmt.Errorf("%w: the peer will take no request", errNoHTTP2)
	case kind == frameReset && stream == 1:
		return 0, nil, fmt.Errorf("%w: the peer reset the request", errNoHTTP2)
	case kind == frameHeaders && stream == 1:
		code, err := statusOf(flags, payload)
		if code >= 100 && code < 200 {
			code = 0
		}
		return code, nil, err
	}
	return 0, nil, nil
}

// headerBlock writes the request's fields without compressing them (RFC 7541, section 6.2.2): the names by their places
// in the static table of appendix A, the values as they are.
func headerBlock(request *http.Request) []byte {
	const methodGet, schemeHTTPS, authority, path, userAgentField = 0x82, 0x87, 0x01, 0x04, 58
	block := []byte{methodGet, schemeHTTPS}
	block = appendString(append(block, authority), request.Host)
	block = appendString(append(block, path), request.URL.RequestURI())
	return appendString(appendInteger(block, 0, 4, userAgentField), request.UserAgent())
}

func appendString(block []byte, text string) []byte {
	return append(appendInteger(block, 0, 7, len(text)), text...)
}

// appendInteger writes a number after the first bits of a byte (RFC 7541, section 5.1).
func appendInteger(block []byte, first byte, bits, number int) []byte {
	most := 1<<bits - 1
	if number < most {
		return append(block, first|byte(number))
	}
	block = append(block, first|byte(most))
	for number -= most; number >= 0x80; number >>= 7 {
		block = append(block, byte(number)|0x80)
	}
	return append(block, byte(number))
}

// statusOf reads the first field of a response, which is the status (RFC 9113, section 8.3.2): pseudo-header fields come
// first, and there is no other in a response.
func statusOf(flags byte, payload []byte) (int, error) {
	fields := payload
	if flags&flagPadded != 0 && len(fields) > 0 {
		fields = fields[1:]
	}
	if flags&flagPriority != 0 {
		const dependency = 5
		fields = fields[min(dependency, len(fields)):]
	}
	// The peer may resize its table first (RFC 7541, section 6.3).
	for len(fields) > 0 && fields[0]&0xe0 == 0x20 {
		_, rest, ok := cutInteger(fields, 5)
		if !ok {
			break
		}
		fields = rest
	}
	const firstStatus, lastStatus = 8, 14 // in the static table
	codes := [...]int{200, 204, 206, 304, 400, 404, 500}
	if len(fields) > 0 && fields[0]&0x80 != 0 {
		if index := int(fields[0] & 0x7f); index >= firstStatus && index <= lastStatus {
			return codes[index-firstStatus], nil
		}
	} else if len(fields) > 1 {
		bits := 4
		if fields[0]&0x40 != 0 {
			bits = 6
		}
		index, rest, ok := cutInteger(fields, bits)
		if ok && index >= firstStatus && index <= lastStatus {
			return literalStatus(rest)
		}
	}
	return 0, fmt.Errorf("%w: a response whose status is written in a way that is not known here", errNoHTTP2)
}

// cutInteger reads a number after the first bits of a byte. None here has reason to be larger than four bytes.
func cutInteger(fields []byte, bits int) (number int, rest []byte, ok bool) {
	most := 1<<bits - 1
	number = int(fields[0]) & most
	if number < most {
		return number, fields[1:], true
	}
	for i, next := range fields[1:min(len(fields), 5)] {
		number += int(next&0x7f) << (7 * i)
		if next&0x80 == 0 {
			return number, fields[i+2:], true
		}
	}
	return 0, nil, false
}

// literalStatus reads three digits, as they are or in Huffman's code (RFC 7541, appendix B).
func literalStatus(fields []byte) (int, error) {
	if len(fields) == 0 {
		return 0, fmt.Errorf("%w: a status without value", errNoHTTP2)
	}
	length := int(fields[0] & 0x7f)
	if length > len(fields)-1 {
		return 0, fmt.Errorf("%w: a status that is cut off", errNoHTTP2)
	}
	text := string(fields[1 : 1+length])
	if fields[0]&0x80 != 0 {
		text = huffmanDigits(fields[1 : 1+length])
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 100 || code > 999 {
		return 0, fmt.Errorf("%w: the status %q", errNoHTTP2, shorten(text))
	}
	return code, nil
}

// huffmanDigits reads up to three digits: 0 to 2 have five bits, 00000 and up, 3 to 9 six, 011001 and up.
func huffmanDigits(coded []byte) string {
	var bits uint32
	for _, b := range coded[:min(len(coded), 3)] {
		bits = bits<<8 | uint32(b)
	}
	left := 8 * min(len(coded), 3)
	var digits []byte
	for len(digits) < 3 && left >= 5 {
		if five := bits >> (left - 5) & 0x1f; five <= 2 {
			digits, left = append(digits, '0'+byte(five)), left-5
			continue
		}
		if left < 6 {
			break
		}
		six := bits >> (left - 6) & 0x3f
		if six < 0x19 || six > 0x1f {
			break
		}
		digits, left = append(digits, '3'+byte(six-0x19)), left-6
	}
	return string(digits)
}
