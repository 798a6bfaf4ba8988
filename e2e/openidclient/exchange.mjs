// Exchanges a token at ISSUER, as RFC 8414 and RFC 8693 have it: what the server says
// of itself is all that is known of it. The parameters come as JSON on standard
// input; what came of it goes as JSON to standard output.
import * as client from 'openid-client'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { text } from 'node:stream/consumers'

const grantType = 'urn:ietf:params:oauth:grant-type:token-exchange'
const issuer = new URL(process.env.ISSUER)
const config = await client.discovery(issuer, 'an-agent', undefined, client.None(), { algorithm: 'oauth2' })
const server = config.serverMetadata()
const result = { grants: server.grant_types_supported }
try {
  const answer = await client.genericGrantRequest(config, grantType, JSON.parse(await text(process.stdin)))
  Object.assign(result, answer)
  if (process.env.VERIFY) {
    const keys = createRemoteJWKSet(new URL(server.jwks_uri))
    const { payload } = await jwtVerify(answer.access_token, keys, { issuer: server.issuer, audience: server.issuer, typ: 'at+jwt' })
    result.claims = payload
  }
} catch (e) {
  if (!(e instanceof client.ResponseBodyError)) throw e
  Object.assign(result, { error: e.error, error_description: e.error_description })
}
console.log(JSON.stringify(result))
