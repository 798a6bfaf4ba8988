package main

import (
	"html/template"
	"net/http"
)

// Where people sign in: the library brings no page of its own.
const (
	loginPath  = "/login"
	devicePath = "/device"
)

// page is a form that asks for a login name, for one kind of sign-in.
type page struct {
	// reference is the parameter that says which sign-in it is about.
	reference string
	known     func(reference string) bool
	signIn    func(reference, login string) error
	done      func(w http.ResponseWriter, r *http.Request, reference string)
}

var form = template.Must(template.New("form").Parse(`<!DOCTYPE html>
<title>Sign in</title>
<form method="post">
<input type="hidden" name="{{.Name}}" value="{{.Value}}">
<input type="text" name="login">
<button type="submit">Sign in</button>
</form>
`))

// ServeHTTP shows the form, and takes it. A password is not asked for: everyone
// on this machine may be everyone.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reference := r.FormValue(p.reference)
	if !p.known(reference) {
		http.Error(w, "There is no such sign-in.", http.StatusBadRequest)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// A failed write means that the asker has gone, which is its affair.
		_ = form.Execute(w, struct{ Name, Value string }{p.reference, reference})
		return
	}
	if err := p.signIn(reference, r.PostFormValue("login")); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	p.done(w, r, reference)
}
