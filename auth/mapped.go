package auth

// Mapped says to a person how one field of a [User] was made of claims, or how
// one rule judged them.
type Mapped struct {
	// Field is username, groups, uid, extra["<key>"], or the place of a rule in
	// the configuration, such as claimValidationRules[2].
	Field string
	// Rule is the configuration's part that did it.
	Rule string
	// Values are what it gave; a rule gives none.
	Values []string
	// Err says why it gave nothing, or what the rule found; nil if all is well.
	Err error
}
