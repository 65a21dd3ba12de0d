package mcbp

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzParse feeds anything to the parser and, if it is a frame, to the accessors and decoders: nothing may panic, a frame
// is always the same as its parts, and what a decoder accepts is the same message after encoding.
func FuzzParse(f *testing.F) {
	for _, frames := range recordedFrames(f) {
		for _, frame := range frames[:min(len(frames), 60)] {
			f.Add([]byte(frame))
		}
	}
	for _, frame := range allLayouts() {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, rest, err := Parse(data, 1<<20)
		if err != nil {
			var malformed *MalformedError
			if !errors.Is(err, ErrShortHeader) && !errors.As(err, &malformed) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if len(frame)+len(rest) != len(data) {
			t.Fatalf("%d bytes became %d and %d", len(data), len(frame), len(rest))
		}
		if again := packetOf(frame).Frame(); !bytes.Equal(again, frame) {
			t.Fatalf("%x became %x", []byte(frame), []byte(again))
		}
		_ = frame.String()
		checkDecoders(t, frame)
	})
}

// checkDecoders decodes, encodes, and decodes again: parts that a layout ignores, such as reserved bytes, may be lost the
// first time, but nothing after that.
func checkDecoders(t *testing.T, frame Frame) {
	t.Helper()
	once, ok, err := reencode(frame)
	if !ok {
		return
	}
	if err != nil {
		var layout *LayoutError
		if !errors.As(err, &layout) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	twice, _, err := reencode(once)
	if err != nil {
		t.Fatalf("%x was accepted and became %x: %v", []byte(frame), []byte(once), err)
	}
	if !bytes.Equal(once, twice) {
		t.Fatalf("%x became %x", []byte(once), []byte(twice))
	}
}
