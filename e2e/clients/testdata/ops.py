"""What people do with the client for Python, an operation a line:
python3 ops.py KUBECONFIG NAMESPACE OPERATION"""
import json
import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.stream import stream

kubeconfig, namespace, operation = sys.argv[1:]
config.load_kube_config(kubeconfig)
core = client.CoreV1Api()


def names(items):
    return sorted(i.metadata.name for i in items)


def create():
    body = {"metadata": {"name": "made"}, "data": {"a": "b"}}
    made = core.create_namespaced_config_map(namespace, body)
    try:
        core.create_namespaced_config_map(namespace, body)
    except client.ApiException as e:
        return made.data, e.status, json.loads(e.body)["reason"]


def list_():
    whole = core.list_namespaced_config_map(namespace)
    page = core.list_namespaced_config_map(namespace, limit=1)
    rest = core.list_namespaced_config_map(namespace, limit=9, _continue=page.metadata._continue)
    try:
        core.list_node()
    except client.ApiException as e:
        return names(whole.items), names(page.items + rest.items), e.status, json.loads(e.body)["message"]


def patch():
    merged = core.patch_namespaced_config_map("made", namespace, {"data": {"a": "merged"}})
    merged.data["a"] = "replaced"
    return core.replace_namespaced_config_map("made", namespace, merged).data


def watch_():
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=30):
        seen.append((event["type"], event["object"].metadata.name))
        if seen[-1] == ("ADDED", "made"):
            core.patch_namespaced_config_map("made", namespace, {"data": {"seen": "yes"}})
        if seen[-1][0] == "MODIFIED":
            return sorted(seen)


def exec_():
    # What comes first, of two streams, is nobody's promise.
    connection = stream(core.connect_get_namespaced_pod_exec, "shell", "dev", command=["sh", "-c", "echo hello; echo oops >&2"],
                        stdin=False, stdout=True, stderr=True, tty=False, _preload_content=False)
    connection.run_forever(timeout=30)
    return connection.read_stdout(), connection.read_stderr(), connection.returncode


def dynamic_():
    api = dynamic.DynamicClient(client.ApiClient())
    maps = api.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}}
    applied = maps.patch(body=json.dumps(body), name="applied", namespace=namespace,
                         content_type="application/apply-patch+yaml", field_manager="ops")
    applied = applied.to_dict()
    return applied["data"], applied["metadata"]["managedFields"][0]["operation"]


def can_i():
    ask = {"spec": {"resourceAttributes": {"namespace": namespace, "verb": "delete", "resource": "configmaps"}}}
    return client.AuthorizationV1Api().create_self_subject_access_review(ask).status.allowed


def delete():
    core.delete_namespaced_config_map("made", namespace)
    core.delete_collection_namespaced_config_map(namespace, field_selector="metadata.name=applied")
    return names(core.list_namespaced_config_map(namespace).items)


def refreshed():
    """Lists once for each line that it reads."""
    for _ in sys.stdin:
        print(names(core.list_namespaced_config_map(namespace).items), flush=True)


print(json.dumps({
    "version": lambda: client.VersionApi().get_code().git_version,
    "create": create, "list, in pages": list_, "patch, replace": patch, "watch": watch_, "exec": exec_,
    "apply by the dynamic client": dynamic_, "can-i": can_i, "delete": delete, "across token refreshes": refreshed,
}[operation]()))
