// An OpenID provider on the loopback address. It takes its settings from the
// environment, prints one JSON line {"issuer": "..."} when it serves, and runs
// until it is ended.
//
//   CERT_FILE, KEY_FILE   the serving pair, PEM
//   CLIENT_ID             a public client, for the code flow with PKCE and the device flow
//   REDIRECT_URI          where the client is sent back to
//   ACCOUNTS              JSON: {"login": {"email": "...", "groups": [...]}}
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import { Provider } from 'oidc-provider';

const { CERT_FILE, KEY_FILE, CLIENT_ID, REDIRECT_URI, ACCOUNTS } = process.env;
const accounts = new Map(Object.entries(JSON.parse(ACCOUNTS)));

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'certified-1' };
}

function configuration() {
  return {
    clients: [{
      client_id: CLIENT_ID,
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      redirect_uris: [REDIRECT_URI],
      grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    conformIdTokenClaims: false, // the claims of a scope are in the ID token
    pkce: { required: () => true },
    features: { deviceFlow: { enabled: true } },
    jwks: { keys: [signingKey()] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    ttl: { AccessToken: 600, AuthorizationCode: 60, DeviceCode: 60, Grant: 3600, IdToken: 3600, Interaction: 600, Session: 3600 },
    async findAccount(_ctx, sub) {
      const account = accounts.get(sub);
      return account && { accountId: sub, claims: async () => ({ sub, email_verified: true, ...account }) };
    },
  };
}

const server = createServer({ cert: readFileSync(CERT_FILE), key: readFileSync(KEY_FILE) });
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  server.on('request', new Provider(issuer, configuration()).callback());
  console.log(JSON.stringify({ issuer }));
});
