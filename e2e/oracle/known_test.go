package oracle_test

// known lists the differences that are neither mended nor documented yet. It
// should be empty. A row that names one fails as soon as there is no difference
// any more.
var known = map[string]string{
	"empty-group-column":  "kube-apiserver gives the group \"\" for an empty fourth column of the token file; gatehouse gives none",
	"url-form":            "kube-apiserver takes an issuer URL without a host, or with an empty query or fragment; gatehouse refuses when it makes the issuer, without the path to the field",
	"null-claim-user":     "kube-apiserver reads null as an empty user name; gatehouse says `missing or not a string`",
	"null-claim-uid":      "kube-apiserver reads null as an empty uid; gatehouse refuses",
	"null-claim-required": "kube-apiserver takes null for a required empty value; gatehouse refuses",
	"null-audience":       "kube-apiserver reads null in `aud` as an empty audience beside the others; gatehouse refuses",
	"number-too-large":    "kube-apiserver reads only the claims that it needs; gatehouse refuses a token that holds a number beyond a double",
}
