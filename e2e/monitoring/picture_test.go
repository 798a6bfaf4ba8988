package monitoring_test

import (
	"fmt"
	"html"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sizes of the picture, in pixels: of one unit of Grafana's grid, and within a panel.
const (
	unitWidth, unitHeight = 52, 27
	gap                   = 6
	headHeight            = 24
	axisWidth             = 58
	legendLine            = 13
	legendLines           = 3
	legendChars           = 26
)

// colors can be told apart by people who do not see all of them.
var colors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#882255", "#999933"}

// picture draws panels as SVG, placed as Grafana places them.
type picture struct {
	b          strings.Builder
	start, end time.Time
}

// drawn is a panel with what its queries returned.
type drawn struct {
	panel
	lines []line
	names []string // of the lines
}

func (p *picture) String(panels []drawn) string {
	bottom := 0
	for _, one := range panels {
		bottom = max(bottom, one.GridPos.Y+one.GridPos.H)
	}
	p.b.Reset()
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", 24*unitWidth+gap, bottom*unitHeight+gap)
	p.b.WriteString(`<rect width="100%" height="100%" fill="#f4f5f5"/>` + "\n")
	for _, one := range panels {
		p.panel(one)
	}
	p.b.WriteString("</svg>\n")
	return p.b.String()
}

func (p *picture) text(x, y float64, style, text string) {
	fmt.Fprintf(&p.b, `<text x="%.0f" y="%.0f" %s>%s</text>`+"\n", x, y, style, html.EscapeString(text))
}

func (p *picture) panel(one drawn) {
	g := one.GridPos
	x, y := float64(g.X*unitWidth+gap), float64(g.Y*unitHeight+gap)
	w, h := float64(g.W*unitWidth-gap), float64(g.H*unitHeight-gap)
	if one.Type == "row" {
		p.text(x, y+h-4, `font-weight="bold" font-size="14"`, one.Title)
		return
	}
	fmt.Fprintf(&p.b, `<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" fill="#ffffff" stroke="#dddddd"/>`+"\n", x, y, w, h)
	p.text(x+8, y+16, `font-weight="bold"`, one.Title)
	if one.Type == "stat" {
		value := "no data"
		if len(one.lines) > 0 {
			last := one.lines[0].samples
			value = quantity(last[len(last)-1].value, one.FieldConfig.Defaults.Unit)
		}
		p.text(x+w/2, y+h/2+20, `font-size="28" text-anchor="middle"`, value)
		return
	}
	p.plot(one, x+axisWidth, y+headHeight, w-axisWidth-10, h-headHeight-legendLine*(legendLines+1)-4)
	p.legend(one, x+8, y+h-legendLine*legendLines+6, w-16)
}

// plot draws the lines, from 0 to a round number above them all.
func (p *picture) plot(one drawn, x, y, w, h float64) {
	top := 0.0
	for _, l := range one.lines {
		for _, s := range l.samples {
			top = max(top, s.value)
		}
	}
	top = roundUp(top)
	for i := range 3 {
		at := y + h*float64(i)/2
		fmt.Fprintf(&p.b, `<path d="M%.0f %.1fh%.0f" stroke="#e0e0e0"/>`+"\n", x, at, w)
		p.text(x-5, at+4, `text-anchor="end" fill="#666666"`, quantity(top*float64(2-i)/2, one.FieldConfig.Defaults.Unit))
	}
	span := p.end.Sub(p.start).Seconds()
	for i := range 3 {
		p.text(x+w*float64(i)/2, y+h+12, `text-anchor="middle" fill="#666666" font-size="9"`, fmt.Sprintf("%.0f s", span*float64(i)/2))
	}
	for i, l := range one.lines {
		var path strings.Builder
		for j, s := range l.samples {
			step := "L"
			if j == 0 || s.at.Sub(l.samples[j-1].at) > 2*time.Second {
				step = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", step, x+w*s.at.Sub(p.start).Seconds()/span, y+h-h*s.value/top)
		}
		fmt.Fprintf(&p.b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colors[i%len(colors)])
	}
}

func (p *picture) legend(one drawn, x, y, w float64) {
	const columns = 2
	for i, name := range one.names {
		if i == columns*legendLines-1 && len(one.names) > columns*legendLines {
			name = fmt.Sprintf("and %d more", len(one.names)-i)
		} else if i >= columns*legendLines {
			return
		}
		if len(name) > legendChars {
			name = name[:legendChars-1] + "…"
		}
		left, top := x+w*float64(i%columns)/columns, y+float64(i/columns*legendLine)
		fmt.Fprintf(&p.b, `<path d="M%.0f %.0fh10" stroke="%s" stroke-width="3"/>`+"\n", left, top-4, colors[i%len(colors)])
		p.text(left+14, top, "", name)
	}
}

// roundUp returns 1, 2 or 5 times a power of ten, at least as large as value.
func roundUp(value float64) float64 {
	if value <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, factor := range []float64{1, 2, 5} {
		if value <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

// quantity writes a value in one of Grafana's units.
func quantity(value float64, unit string) string {
	short := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	switch {
	case unit == "percentunit":
		return short(value*100) + " %"
	case unit == "bytes":
		return short(value/(1<<20)) + " MiB"
	case unit == "s" && value >= 2*86400:
		return short(value/86400) + " d"
	case unit == "s" && value >= 2*3600:
		return short(value/3600) + " h"
	case unit == "s" && value >= 120:
		return short(value/60) + " min"
	case unit == "s" && value >= 1:
		return short(value) + " s"
	case unit == "s" && value >= .001:
		return short(value*1000) + " ms"
	case unit == "s" && value > 0:
		return short(value*1e6) + " µs"
	case unit == "reqps" || unit == "ops":
		return short(value) + "/s"
	}
	return short(value)
}

// add puts what one query returned into d. Lines of nothing but 0 are left out.
func (d *drawn) add(lines []line, legend string) {
	for _, l := range lines {
		if d.Type == "timeseries" && !slices.ContainsFunc(l.samples, func(s sample) bool { return s.value != 0 }) {
			continue
		}
		d.lines = append(d.lines, l)
		d.names = append(d.names, regexp.MustCompile(`\{\{(\w+)\}\}`).ReplaceAllStringFunc(legend, func(name string) string {
			return l.labels[strings.Trim(name, "{}")]
		}))
	}
}
