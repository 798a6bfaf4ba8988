package proxy

import "github.com/kube-gatehouse/gatehouse/auth"

// cause is why gatehouse says a sentence, and what to do about it. Both are
// Markdown for docs/errors.md.
type cause struct{ why, remedy string }

// credentialCauses are those of each reason for which a credential is refused.
func credentialCauses() map[auth.Reason]cause {
	return map[auth.Reason]cause{
		auth.NoCredential:       {"The request carries no credential, and its path is not one of `anonymous` in the AuthenticationConfiguration. The kubeconfig's user is empty, or a hop before gatehouse took the `Authorization` header away.", "Look at the user with `kubectl config view --minify`, and [point kubectl at gatehouse](how-to/kubectl.md). A load balancer before gatehouse has to [pass TCP through](how-to/behind-a-load-balancer.md)."},
		auth.BadHeader:          {"No token after `Bearer`, or more than one word, a comma or a character beyond ASCII. Also a token in `Sec-WebSocket-Protocol` that is no unpadded base64url, stands without another protocol, or is on a request that is no WebSocket's.", "Look at how the token is put in: a newline or quotes at its ends are common."},
		auth.SeveralCredentials: {"Two `Authorization` headers, two tokens in `Sec-WebSocket-Protocol`, or one in each.", "Send one. Something between the caller and gatehouse may have added the other."},
		auth.UnsupportedScheme:  {"The header says `Basic` or another scheme.", "Put a token into the kubeconfig in place of user name and password."},
		auth.TokenTooLong:       {"More than 32 KiB, or `GATEHOUSE_MAX_TOKEN_BYTES`.", "Have the issuer put fewer groups or claims into the token."},
		auth.IssuerUnavailable:  {"The issuer cannot be reached, or its keys are too old.", "`/readyz?verbose` says why; mend the way to the issuer. [The runbook](runbook.md) has more."},
		auth.Expired:            {"`exp` has passed; there is no leeway.", "Sign in again. If it has just expired for many, compare the clocks of the issuer and of gatehouse."},
		auth.NotYetValid:        {"`nbf` or `iat` lies more than a minute in the future; or a certificate, or one of its chain, is not valid before then.", "Compare the clocks of the issuer or CA and of gatehouse."},
		auth.WrongAudience:      {"`aud` does not hold `GATEHOUSE_OIDC_CLIENT_ID`, or none of the `audiences` of the issuer.", "Have the sign-in ask for this cluster's client, or add the audience to the settings."},
		auth.WrongParty:         {"`azp` names another client.", "If it may be used, add it to `GATEHOUSE_AUTHORIZED_PARTIES`."},
		auth.WrongTokenType:     {"The header `typ` names another kind, such as an access token, or the token carries `cnf` or `events`.", "Send the ID token. `GATEHOUSE_TOKEN_TYPES` can allow kinds by `typ`."},
		auth.BadUsernameClaim:   {"The claim of `GATEHOUSE_OIDC_USERNAME_CLAIM`, or of `username`, is missing, blank or not a string, or the expression fails or gives no such string.", "Often a scope such as `email` was not asked for. [`gatehouse explain`](how-to/explain-a-refusal.md) shows the claims."},
		auth.UnverifiedEmail:    {"The claim is `email`, and `email_verified` is there and not `true`.", "Verify the address at the issuer, or name the user by another claim."},
		auth.BadGroupsClaim:     {"The groups claim is neither a string nor a list of strings, or one of them is empty; or the expression fails or gives something else.", "Have the issuer send a list of strings, or mend the expression."},
		auth.RequiredClaim:      {"One of `GATEHOUSE_OIDC_REQUIRED_CLAIMS`, or a rule with `claim` and `requiredValue`: the claim is missing or is not a string of that value.", "If they should be let in, have the issuer give them the claim. The log has its name."},
		auth.BadMapping:         {"The uid or an extra cannot be made of the claims: the claim is missing or not a string, or the expression fails.", "The log says which. Mend the mapping, or have the issuer send the claim."},
		auth.ClaimRule:          {"An expression of `claimValidationRules` is not true, fails, or costs too much.", "The log has it, with its `message`. Mend the rule, or what the issuer sends."},
		auth.UserRule:           {"An expression of `userValidationRules` is not true, fails, or costs too much.", "The same."},
		auth.BadName:            {"A control character, white space at an end, or bytes that are not UTF-8, in a name, a group, the uid or an extra; `jti` is one.", "The log says which. Change it at the issuer."},
		auth.ReservedName:       {"A name that begins with `system:` or `kubeadm:`.", "Use a prefix, or, if it must be so, `GATEHOUSE_ALLOWED_RESERVED_NAMES`."},
		auth.IdentityTooLarge:   {"More than 256 KiB of names; or, of groups that were looked up in Microsoft Graph, more than 2000 after `GATEHOUSE_ENTRA_GROUPS`.", "Have the issuer send those groups alone that the cluster knows."},
		auth.UnsupportedClaims:  {"Distributed claims, or Microsoft Entra's above 200 groups.", "[Many groups](how-to/many-groups.md) says what can be set up; the log says what is missing."},
		auth.GroupsUnavailable:  {"A claim source or Microsoft Graph does not answer, or not as it should, or does not accept gatehouse.", "The log says why; `gatehouse_group_lookups_total` counts."},
		auth.GroupsRefused:      {"A claim source answers 401 or 403 to the access token in the token, or Microsoft Graph knows no user with this `oid`.", "Sign in again. If it stays, look for the account there."},
		auth.BadCertificate:     {"It has no common name, an unclear uid, or a use that leaves client authentication out; or it came with more than ten certificates, or in another form than DER.", "`gatehouse explain --certificate` says which. Issue [another](how-to/client-certificates.md)."},
		auth.CertificateExpired: {"`notAfter` of it, or of one of its chain, has passed.", "Issue another. If it is that of an intermediate, renew that."},
		auth.CertificateRevoked: {"It, or one of its chain, is on a list of `GATEHOUSE_CLIENT_CRL_FILE`.", "If that is wrong, the CA has to publish another list."},
		auth.CRLStale:           {"The list is past its `nextUpdate`.", "Renew it, or set `GATEHOUSE_CLIENT_CRL_STALE=allow` meanwhile."},
		auth.CRLMissing:         {"An intermediate has no list, though a CA above it has one.", "Put the intermediate into the CA file, and its list into the CRL file."},
		auth.Revoked:            {"The credential, or its user, stands in `GATEHOUSE_REVOCATION_FILE`.", "The log names the entry and its note. [Revoke access](how-to/revoke-access.md) says when a new sign-in helps."},
		auth.OriginGone:         {"The issuer whose token was exchanged is not configured any more, or the token file has no row of this user.", "Exchange a token that is accepted."},
		auth.InternalAuthFailed: {"The API server gave no answer to a TokenReview that could be used, or more new tokens came than `GATEHOUSE_MAX_TOKEN_REVIEWS`; or a fault in gatehouse.", "The log has the detail; `gatehouse_token_reviews_total` counts."},

		auth.UnknownToken:          {"Not in the token file, and no token of a configured issuer. A ServiceAccount token of the cluster also ends here.", "Compare `iss` with `GATEHOUSE_OIDC_ISSUER_URL`, or `url` in the file, byte for byte."},
		auth.MalformedToken:        {"A token of our issuer with a name that stands twice or is no UTF-8, a number beyond all bounds, a claim that differs from a known or configured one in case alone, dates that are no dates, or a header such as `jku` or `crit`.", "The log says which. Change what the issuer sends."},
		auth.UnsupportedAlgorithm:  {"Signed with an algorithm that is not in `GATEHOUSE_OIDC_SIGNING_ALGS`; of the issuers of a file, with none of the RS, ES and PS algorithms.", "Add the algorithm, or change it at the issuer."},
		auth.UnknownKey:            {"The issuer publishes no key with this `kid` that fits, or no key at all any more, or the token has no `kid` and there are several keys.", "After a key change at the issuer it may last 10 seconds. Later, sign in again: the key was withdrawn."},
		auth.BadSignature:          {"Changed on its way, or forged. If the issuer put another key under the same `kid`, it may last 10 seconds.", "Sign in again. If many come from one address, look there."},
		auth.CertificateNotTrusted: {"The client certificate does not chain to a CA of `GATEHOUSE_CLIENT_CA_FILE`.", "Put the missing CA into that file, or the intermediate there or into the client's certificate file. Else a rule of RFC 5280 is broken: the log says which."},
	}
}

// answerCause is a cause of an answer that is not about a credential.
type answerCause struct {
	answer answer
	cause
}

func requestCauses() []answerCause {
	return []answerCause{
		{badTarget, cause{"An absolute URL or `*` as the target, or a path in a spelling that two servers could read in two ways. With an API server whose URL has a path of its own, also a path with `.` or `..`.", "Send the path alone, and percent-encode it as usual."}},
		{badUpgrade, cause{"The header `Upgrade` names another protocol, such as `h2c`, or several.", "Use one of the two, as kubectl does."}},
		{badBody, cause{"The body breaks the rules of its framing, or was cut off.", "Look at what stands between the caller and gatehouse."}},
		{slowBody.answer, cause{"It was not whole after `GATEHOUSE_BODY_TIMEOUT`: a slow line, or a client that stopped. If it was being forwarded, part of it reached the API server.", "Look whether the change was made, and send it again; raise the setting for slow lines."}},
		{tooManyLines.answer, cause{"More than `GATEHOUSE_MAX_HEADER_LINES`.", "Look at what adds them. Raise the setting if they must be."}},
		{crossSite, cause{"A browser made the request for another site's page, by `Origin` or `Sec-Fetch-Site`, and it carries no token.", "Have the page send a token, or serve it from gatehouse's own address."}},
		{noImpersonate, cause{"`GATEHOUSE_IMPERSONATION` is false, and the request carries a header whose name begins with `Impersonate`.", "Leave out `--as` and what the kubeconfig has of `as`; or [offer it](how-to/act-as-another-user.md)."}},
		{badImpersonation, cause{"An `Impersonate-*` header is unknown, empty or there twice, names groups without a user, or holds what the wire would change; or more than 256 groups and values of extra are asked for.", "Name one user by `--as`."}},
		{narrowDoor, cause{"The account may name users, and not for this: the door was made narrower, as with `gatehouse rbac --read-only`. The log has what the API server said.", "If it was not meant, apply what `gatehouse rbac` prints."}},
		{mayNotActAs, cause{"The cluster's rules do not let the caller impersonate it. The log line has `not_as`.", "Grant the right: [let people act as another user](how-to/act-as-another-user.md)."}},
		{scoped, cause{"A session token with [a scope](scopes.md). The word named is the one that does not allow the request.", "Use another token, or exchange yours with another scope."}},
		{noCredentials, cause{"A session token with any [scope](scopes.md) may not make ServiceAccount tokens or certificates, which would have none.", "Use another token."}},
		{badQuestion, cause{"An access review could not name what the API server would read: bytes that are no UTF-8, or more than 1,000 parameters.", "Ask without `--as`, or with fewer parameters."}},
		{neverAs, cause{"The API server refuses the first two to gatehouse's account, whatever the caller may; and no request runs as gatehouse.", "Act as a user to whom you have bound what you need; for an emergency, [break the glass](how-to/break-glass.md)."}},
		{cannotTell, cause{"The API server did not answer a SubjectAccessReview. Mostly gatehouse's account may not create one. To act as a ServiceAccount, gatehouse must know its own name, by SelfSubjectReview (Kubernetes 1.28).", "The line `rights` of `/readyz?verbose` says so; apply what `gatehouse rbac` prints."}},
		{identityChanged, cause{"The credential makes another user than when the request came, and the API server had not answered yet.", "Look whether the change was made, and send it again."}},
		{badMethod, cause{"Only GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS are.", "Use one of these."}},
		{badExpectation, cause{"Another `Expect` header.", "Leave it out."}},
	}
}

func upstreamCauses() []answerCause {
	return []answerCause{
		{upstreamDown, cause{"No connection.", "Look at the address, the network policy and the API server."}},
		{upstreamStarts, cause{"It has just started and does not know yet what gatehouse's own account may do.", "Wait. If it lasts, `/readyz?verbose` says why."}},
		{upstreamBroken, cause{"Cut off, or an answer that may not be passed on, such as a redirect of an upgrade. A request that changes something may have been carried out.", "Look before you do it again. The log has the error."}},
		{upstreamSlow, cause{"No answer within `GATEHOUSE_UPSTREAM_TIMEOUT`, or a time-out on the way, such as of the TLS handshake. A request that changes something may have been carried out.", "Look before you do it again. Look at the API server's load."}},
		{upstreamFalse, cause{"Another CA than the one in the kubeconfig, another name, or an expired certificate. Nothing was sent.", "Put the API server's CA into the kubeconfig, and use a name that its certificate has."}},
		{unclearReview, cause{"The caller's token has a [scope](scopes.md), and the answer to a SelfSubjectAccessReview or SelfSubjectRulesReview is no JSON of that kind, or has more than 1 MiB. The log says which.", "Look at what answers for the API server, and its version."}},
		{upstreamRefused, cause{"The API server answered 401 to gatehouse itself.", "Look at the token or certificate of the kubeconfig, or at the token that is mounted into the pod."}},
		{upstreamForbids, cause{"The API server answered 403 about gatehouse's own account. The log has its sentence.", "`gatehouse check --connect` says what is missing; apply what `gatehouse rbac` prints."}},
		{looping, cause{"The address in the kubeconfig leads to gatehouse, perhaps by a load balancer or a DNS name; or more than eight gatehouses stand in a row.", "Name the API server's own address."}},
	}
}

// limitCauses are those of the answers with 429.
func limitCauses() map[*rejection]cause {
	return map[*rejection]cause{
		tooManyRequests: {"One user has `GATEHOUSE_MAX_REQUESTS_PER_USER` under way: a loop, or a slow API server.", "Stop the loop; look at the API server."},
		tooManyStreams:  {"One user has `GATEHOUSE_MAX_STREAMS_PER_USER` open: watches that a program forgets, or a controller that needs more.", "Close them, or raise the setting."},
		fullOfRequests:  {"`GATEHOUSE_MAX_REQUESTS`, and this user has as many as are free.", "Look first whether the API server is slow; add replicas."},
		fullOfStreams:   {"The same for `GATEHOUSE_MAX_STREAMS`.", "Add replicas, or raise the setting: [scaling](scaling.md)."},
		tooManyFailures: {"A flood of bad credentials from this address, and the credential was not accepted lately.", "Lines with `refused` name the address; stop what sends them."},
	}
}

func ownCauses() []answerCause {
	return []answerCause{
		{draining, cause{"A new watch while the others end.", "Nothing: another replica answers, or a new one will."}},
		{cutOff, cause{"It took longer than `GATEHOUSE_SHUTDOWN_TIMEOUT`.", "If it was to change something, look before you do it again."}},
		{internalError, cause{"A fault in gatehouse.", "Please report it with the line of the log."}},
	}
}
