package oracle_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// referenceCodecs are those of kube-apiserver's options code.
var referenceCodecs = sync.OnceValue(func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict)
})

var referenceCompiler = sync.OnceValue(authenticationcel.NewDefaultCompiler)

// referenceLoad reads a file as kube-apiserver v1.37 does
// (pkg/kubeapiserver/options, loadAuthenticationConfigFromData and Validate).
func referenceLoad(content []byte, disallowed []string) (*apiserver.AuthenticationConfiguration, field.ErrorList, error) {
	if len(content) == 0 {
		return nil, nil, errors.New("empty config data")
	}
	object, err := runtime.Decode(referenceCodecs().UniversalDecoder(), content)
	if err != nil {
		return nil, nil, err
	}
	config, ok := object.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", object)
	}
	return config, validation.ValidateAuthenticationConfiguration(referenceCompiler(), config, disallowed), nil
}

// referenceFlags makes what kube-apiserver v1.37 makes of its --oidc-* flags
// (pkg/kubeapiserver/options, ToAuthenticationConfig).
func referenceFlags(f flags, issuer, ca string) apiserver.JWTAuthenticator {
	if f.UsernameClaim == "" {
		f.UsernameClaim = "sub" // the default of the flag
	}
	prefix := f.UsernamePrefix
	if f.UsernamePrefix == "" && f.UsernameClaim != "email" {
		prefix = issuer + "#"
	}
	if f.UsernamePrefix == "-" {
		prefix = ""
	}
	jwt := apiserver.JWTAuthenticator{
		Issuer: apiserver.Issuer{URL: issuer, Audiences: []string{audience}, CertificateAuthority: ca},
		ClaimMappings: apiserver.ClaimMappings{
			Username: apiserver.PrefixedClaimOrExpression{Prefix: &prefix, Claim: f.UsernameClaim},
		},
	}
	if f.GroupsClaim != "" {
		jwt.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Prefix: &f.GroupsPrefix, Claim: f.GroupsClaim}
	}
	for claim, value := range f.RequiredClaims {
		jwt.ClaimValidationRules = append(jwt.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: claim, RequiredValue: value})
	}
	return jwt
}

type staticCA []byte

func (ca staticCA) CurrentCABundleContent() []byte { return ca }

// newReference returns kube-apiserver's chain of JWT authenticators
// (pkg/kubeapiserver/authenticator, newJWTAuthenticator), with keys. client, if
// it is not nil, takes the place of one for each issuer.
func newReference(ctx context.Context, jwts []apiserver.JWTAuthenticator, algorithms []string, client *http.Client) (authenticator.Token, error) {
	var all []authenticator.Token
	for _, jwt := range jwts {
		options := oidc.Options{
			JWTAuthenticator: jwt, SupportedSigningAlgs: algorithms, Compiler: referenceCompiler(),
			Client: client, APIServerID: "oracle",
		}
		if client == nil && jwt.Issuer.CertificateAuthority != "" {
			options.CAContentProvider = staticCA(jwt.Issuer.CertificateAuthority)
		}
		setClock(&options)
		one, err := oidc.New(ctx, options)
		if err != nil {
			return nil, err
		}
		if err := awaitHealthy(one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return union.NewFailOnError(all...), nil
}

// setClock gives options the clock that kube-apiserver keeps for its own tests.
func setClock(options *oidc.Options) {
	clock := reflect.ValueOf(options).Elem().FieldByName("now")
	*(*func() time.Time)(unsafe.Pointer(clock.UnsafeAddr())) = now
}

// awaitHealthy waits for discovery, which kube-apiserver does in the background.
func awaitHealthy(one oidc.AuthenticatorTokenWithHealthCheck) error {
	err := one.HealthCheck()
	for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); err = one.HealthCheck() {
		time.Sleep(time.Millisecond)
	}
	return err
}

// askReference returns kube-apiserver's answer.
func askReference(ctx context.Context, authn authenticator.Token, token string) answer {
	response, ok, err := authn.AuthenticateToken(ctx, token)
	switch {
	case err != nil:
		return answer{err: err}
	case !ok:
		return answer{err: errors.New("no opinion")}
	}
	return answer{user: normal(referenceUser(response.User))}
}

func referenceUser(info user.Info) auth.User {
	return auth.User{Name: info.GetName(), UID: info.GetUID(), Groups: info.GetGroups(), Extra: info.GetExtra()}
}
