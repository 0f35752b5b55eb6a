package main

import (
	"fmt"
	"html"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
)

// Lengths in pixels. GitHub shows a README at most 830 wide.
const (
	cellWidth, lineHeight = 9, 21
	padding, bar, bottom  = 22, 36, 16
	gap                   = 14
)

// style suits light and dark pages. The final state needs no animation: what
// comes later is hidden until then, and what goes again is shown meanwhile.
const style = `<style>
text{font:15px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;white-space:pre;fill:#dce3ea}
.window{fill:#12171e;stroke:#3a424c}
.cursor{fill:#dce3ea;fill-opacity:.6}
.bold{font-weight:700}
.faint{fill-opacity:.6}
.brief{visibility:hidden}
@keyframes hide{from,to{visibility:hidden}}
@keyframes show{from,to{visibility:visible}}
@media (prefers-reduced-motion:reduce){*{animation:none!important}}
</style>
`

// palette has the colors that programs choose by number.
var palette = [16]string{
	"#59636e", "#ff7b72", "#4cc761", "#e0ae3c", "#6cb2ff", "#c8a2ff", "#4fd0dc", "#dce3ea",
	"#7d8792", "#ff9e97", "#6fdc83", "#f0c568", "#93c8ff", "#dabfff", "#7fe3ec", "#ffffff",
}

// draw returns an animated SVG of the terminals, one below the other.
func draw(recordings []recording) []byte {
	var windows strings.Builder
	width, top := 0, 0
	for _, r := range recordings {
		rows, count := replay(r)
		w, h := r.Columns*cellWidth+2*padding, bar+count*lineHeight+bottom
		fmt.Fprintf(&windows, `<g transform="translate(0 %d)">`+"\n"+`<rect class="window" x=".5" y=".5" width="%d" height="%d" rx="9"/>`+"\n", top, w-1, h-1)
		for i, color := range []string{"#ff5f57", "#febc2e", "#28c840"} {
			fmt.Fprintf(&windows, `<circle cx="%d" cy="19" r="5.5" fill="%s"/>`+"\n", padding+5+i*19, color)
		}
		windows.WriteString(rows + "</g>\n")
		width, top = max(width, w), top+h+gap
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" xml:space="preserve">`+"\n%[3]s%[4]s</svg>\n",
		width, top-gap, style, windows.String())
}

// replay returns what each row of a terminal shows over time, and the number
// of rows in use at the end.
func replay(r recording) (svg string, count int) {
	type row struct {
		svg   string
		since int64
	}
	var all strings.Builder
	screen, current := vt.NewEmulator(r.Columns, r.Rows), make([]row, r.Rows)
	for _, o := range r.Output {
		_, _ = screen.WriteString(o.Text)
		for y, old := range current {
			now := drawRow(screen, y)
			if now == old.svg {
				continue
			}
			if old.svg != "" && old.since < o.Millisecond {
				fmt.Fprintf(&all, `<g class="brief" style="animation:show %dms %dms">%s</g>`+"\n", o.Millisecond-old.since, old.since, old.svg)
			}
			current[y] = row{now, o.Millisecond}
		}
	}
	for y, row := range current {
		if row.svg != "" {
			fmt.Fprintf(&all, `<g style="animation:hide %dms">%s</g>`+"\n", row.since, row.svg)
			count = y + 1
		}
	}
	return all.String(), count
}

// drawRow returns a row's text, and the cursor if it is there.
func drawRow(screen *vt.Emulator, y int) string {
	var text, svg strings.Builder
	var run string // of characters in one style
	var pen uv.Style
	width, spaces := 0, 0 // to the last character, and after it
	for x := range screen.Width() {
		switch cell := screen.CellAt(x, y); {
		case cell == nil || cell.Width == 0: // the second half of a wide character
		case strings.TrimSpace(cell.Content) == "":
			spaces++
		default:
			run += strings.Repeat(" ", spaces)
			if !cell.Style.Equal(&pen) {
				text.WriteString(span(run, pen))
				run, pen = "", cell.Style
			}
			run += cell.Content
			width, spaces = x+cell.Width, 0
		}
	}
	text.WriteString(span(run, pen))
	top := bar + y*lineHeight
	if cursor := screen.CursorPosition(); cursor.Y == y && !screen.CursorHidden() {
		fmt.Fprintf(&svg, `<rect class="cursor" x="%d" y="%d" width="%d" height="18"/>`, padding+cursor.X*cellWidth, top+2, cellWidth)
	}
	if width > 0 { // textLength: whatever the font is, columns stay in line
		fmt.Fprintf(&svg, `<text x="%d" y="%d" textLength="%d">%s</text>`, padding, top+16, width*cellWidth, text.String())
	}
	return svg.String()
}

// span returns text in a style, except for backgrounds.
func span(text string, pen uv.Style) string {
	attributes := ""
	switch {
	case text == "":
		return ""
	case pen.Attrs&uv.AttrBold != 0:
		attributes = ` class="bold"`
	case pen.Attrs&uv.AttrFaint != 0:
		attributes = ` class="faint"`
	}
	switch c := pen.Fg.(type) {
	case nil:
	case ansi.BasicColor:
		attributes += fmt.Sprintf(" fill=%q", palette[c])
	default:
		r, g, b, _ := c.RGBA()
		attributes += fmt.Sprintf(` fill="#%02x%02x%02x"`, r>>8, g>>8, b>>8)
	}
	if attributes == "" {
		return html.EscapeString(text)
	}
	return "<tspan" + attributes + ">" + html.EscapeString(text) + "</tspan>"
}
