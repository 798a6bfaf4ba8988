// One way of streaming by @kubernetes/client-node, with this process's own
// input and outputs: node stream.mjs VERB CONTAINER [ARGUMENT...]
import { PassThrough, Writable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const [verb, container, ...rest] = process.argv.slice(2);
const kc = new k8s.KubeConfig();
kc.loadFromFile(process.env.KUBECONFIG);
const { stdin, stdout, stderr } = process;

const verbs = {
  exec: () => new k8s.Exec(kc).exec('dev', 'shell', container, rest, stdout, stderr, stdin, false, (status) => {
    const code = status.details?.causes?.find((c) => c.reason === 'ExitCode')?.message;
    process.exitCode = status.status === 'Success' ? 0 : Number(code ?? 1);
  }),
  attach: () => new k8s.Attach(kc).attach('dev', 'shell', container, stdout, stderr, stdin, false),
  logs: () => new k8s.Log(kc).log('dev', 'shell', container, stdout, { follow: true }),
  watch: () => new k8s.Watch(kc).watch(
    '/api/v1/namespaces/dev/configmaps', {}, (type, object) => console.log(type, object.metadata.name), fail),
  // Its protocol cannot end one direction, so this ends when as much came back
  // as was sent.
  'port-forward': async () => {
    let sent = 0, received = 0, ended = false, connection;
    const input = new PassThrough();
    stdin.on('data', (data) => { sent += data.length; input.write(data); });
    stdin.on('end', () => { ended = true; });
    const output = new Writable({
      write(data, _, done) {
        received += data.length;
        stdout.write(data, done);
        if (ended && received === sent) connection.close();
      },
    });
    connection = await new k8s.PortForward(kc).portForward('dev', 'shell', [Number(rest[0])], output, stderr, input);
  },
};

function fail(error) {
  console.error('failed:', error?.message ?? error);
  process.exit(1);
}

process.on('unhandledRejection', fail);
await verbs[verb]().catch(fail);
