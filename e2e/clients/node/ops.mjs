// What people do with @kubernetes/client-node:
// node ops.mjs KUBECONFIG NAMESPACE OPERATION
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const [kubeconfig, namespace, operation] = process.argv.slice(2);
const kc = new k8s.KubeConfig();
kc.loadFromFile(kubeconfig);
const core = kc.makeApiClient(k8s.CoreV1Api);
const names = (items) => items.map((i) => i.metadata.name).sort();
const refused = (call) => call.then(() => 'allowed', (e) => [e.code, JSON.parse(e.body).message]);
const configMap = (name) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { a: 'b' } });
const listFn = () => core.listNamespacedConfigMap({ namespace });
const path = `/api/v1/namespaces/${namespace}/configmaps`;

const operations = {
  version: async () => (await kc.makeApiClient(k8s.VersionApi).getCode()).gitVersion,
  create: async () => {
    const body = configMap('made');
    const made = await core.createNamespacedConfigMap({ namespace, body });
    return [made.data, await refused(core.createNamespacedConfigMap({ namespace, body }))];
  },
  list: async () => [names((await listFn()).items), await refused(core.listNode())],
  'patch, replace': async () => {
    const patched = await core.patchNamespacedConfigMap(
      { name: 'made', namespace, body: [{ op: 'replace', path: '/data/a', value: 'patched' }] });
    const before = { ...patched.data };
    patched.data.a = 'replaced';
    return [before, (await core.replaceNamespacedConfigMap({ name: 'made', namespace, body: patched })).data];
  },
  watch: () => new Promise((resolve, reject) => {
    const seen = [];
    new k8s.Watch(kc).watch(path, {}, async (type, object) => {
      seen.push(`${type} ${object.metadata.name}`);
      if (seen.at(-1) === 'ADDED made') {
        await core.patchNamespacedConfigMap({ name: 'made', namespace, body: [{ op: 'add', path: '/data/seen', value: 'yes' }] });
      }
      if (type === 'MODIFIED') resolve(seen.sort());
    }, reject).catch(reject);
  }),
  informer: () => new Promise((resolve, reject) => {
    const informer = k8s.makeInformer(kc, path, listFn);
    const seen = [];
    informer.on('error', reject);
    informer.on('add', async ({ metadata }) => {
      seen.push(`add ${metadata.name}`);
      if (metadata.name === 'made') await core.createNamespacedConfigMap({ namespace, body: configMap('later') });
      if (metadata.name === 'later') {
        resolve(seen.sort()); // that it is stopped is an error to it
        await informer.stop();
      }
    });
    informer.start().catch(reject);
  }),
  exec: () => new Promise((resolve, reject) => {
    const out = new PassThrough();
    const said = [];
    out.on('data', (data) => said.push(data));
    new k8s.Exec(kc).exec('dev', 'shell', 'main', ['echo', 'hello'], out, null, null, false,
      (status) => resolve([Buffer.concat(said).toString(), status.status])).catch(reject);
  }),
  'apply, server side': async () => {
    const objects = k8s.KubernetesObjectApi.makeApiClient(kc);
    const applied = await objects.patch(configMap('applied'), undefined, undefined, 'ops', true, k8s.PatchStrategy.ServerSideApply);
    return [applied.data, applied.metadata.managedFields[0].operation];
  },
  'can-i': async () => (await kc.makeApiClient(k8s.AuthorizationV1Api).createSelfSubjectAccessReview({
    body: { spec: { resourceAttributes: { namespace, verb: 'delete', resource: 'configmaps' } } },
  })).status.allowed,
  delete: async () => {
    for (const name of ['made', 'later', 'applied']) await core.deleteNamespacedConfigMap({ name, namespace });
    return names((await listFn()).items);
  },
  // It lists once for each line that it reads.
  'across token refreshes': async () => {
    for await (const _ of createInterface({ input: process.stdin })) console.log(JSON.stringify(names((await listFn()).items)));
  },
};

function fail(error) {
  console.error('failed:', error?.body ?? error?.message ?? error);
  process.exit(1);
}

process.on('unhandledRejection', fail);
console.log(JSON.stringify((await operations[operation]().catch(fail)) ?? null));
process.exit(0); // a watch may still be open
