"""Serving: which adapters are where, how long they take to load, and what model servers and gateways do."""

from docs.dashboards.kit import HALF, ORANGE, ROUTE, THIRD, VERSION, Line, Page, Query, Section, graph, number

ARM = 'route=~"$route", model_version=~"$version"'


def _quantile(q: float, histogram: str, by: str = "") -> str:
    return f"histogram_quantile({q}, sum by ({by}le) (rate({histogram}_bucket[$__rate_interval])))"


ADAPTERS = (
    number("Model servers that answer", "Agents whose model server is up and has its base model, of all agents.",
           Query("sum(tuneloop_serving_engine_up)", "up"), Query("count(tuneloop_serving_engine_up)", "all")),
    number("Starts",
           "Starts of model servers that agents saw in the range that is shown. One that was not planned lost its "
           "adapters.",
           Query("round(sum(increase(tuneloop_serving_engine_starts_total[$__range])))", "starts"), lines=[Line(2,
                                                                                                                ORANGE)]),
    number("Loads", "Of adapters in the range that is shown: loaded, failed for now, refused for good.",
           Query("round(sum by (outcome) (increase(tuneloop_serving_loads_total[$__range])))", "{{outcome}}")),
    number("Evictions", "Adapters that were unloaded in the range that is shown, because no route names them any more.",
           Query("round(sum(increase(tuneloop_serving_unloads_total[$__range])))", "unloaded")),
    graph("Adapters",
          "By replica and state. More that are loaded than there is room for makes servers load at requests.",
          Query("sum by (instance, state) (tuneloop_serving_adapters)", "{{instance}} {{state}}"),
          Query('min(tuneloop_serving_adapter_slots{kind="listed"})', "room for", limit=True)),
    graph("Adapters with traffic",
          "That routes give requests to, and how many a server computes with at a time. Above that, time to first "
          "token multiplies.",
          Query("max(tuneloop_serving_hot_adapters)", "with traffic"),
          Query('min(tuneloop_serving_adapter_slots{kind="hot"})', "at a time", limit=True)),
    graph("Time to load",
          "From the decision to load to the model server's answer: download, checks and load. Median, and 95 of 100.",
          Query(_quantile(0.5, "tuneloop_serving_load_seconds"), "p50"),
          Query(_quantile(0.95, "tuneloop_serving_load_seconds"), "p95"), unit="s", lines=[Line(60, ORANGE)]),
    graph("Loads and unloads", "Per interval, by outcome of the load.",
          Query("sum by (outcome) (increase(tuneloop_serving_loads_total[$__rate_interval]))", "{{outcome}}"),
          Query("sum(increase(tuneloop_serving_unloads_total[$__rate_interval]))", "unloaded"), bars=True),
)

GATEWAY = (
    graph("Tokens", "Per second and version, as answers' usage reports them.",
          Query(f"sum by (route, model_version, kind) (rate(tuneloop_gateway_tokens_total{{{ARM}}}[$__rate_interval]))",
                "{{model_version}} {{kind}}"), unit="tokens/s", width=THIRD),
    graph("Requests",
          "Per second, by version and outcome: ok, error (not the client's fault), rejected (the client's).",
          Query(f"sum by (route, model_version, outcome) "
                f"(rate(tuneloop_gateway_requests_total{{{ARM}}}[$__rate_interval]))",
                "{{model_version}} {{outcome}}"), unit="reqps", width=THIRD),
    graph("In flight", "Requests that gateways have begun and not ended.",
          Query("sum by (instance) (tuneloop_gateway_in_flight)", "{{instance}}"), width=THIRD),
    graph("Refused before a version was chosen",
          "Per second, by code: unknown route, no replica, no key, too many at once.",
          Query("sum by (code) (rate(tuneloop_gateway_unrouted_total[$__rate_interval]))", "{{code}}"), unit="reqps"),
    graph("Routes", "Revision that each gateway has in effect. Gateways that differ for long do not hear of changes.",
          Query('max by (route, instance) (tuneloop_gateway_route_revision{route=~"$route"})',
                "{{route}} {{instance}}"),
          width=HALF),
)

ENGINE = (
    graph("Small engine: requests that decode and wait", "Of the small engine (transformers and PEFT).",
          Query("sum by (instance) (tuneloop_engine_requests_running)", "{{instance}} running"),
          Query("sum by (instance) (tuneloop_engine_requests_waiting)", "{{instance}} waiting"), width=THIRD),
    graph("Small engine: tokens", "Per second, by model and kind.",
          Query("sum by (model, kind) (rate(tuneloop_engine_tokens_total[$__rate_interval]))", "{{model}} {{kind}}"),
          unit="tokens/s", width=THIRD),
    graph("Small engine: failed steps and answers", "Steps of the model that raised, and answers by code.",
          Query("sum(rate(tuneloop_engine_step_failures_total[$__rate_interval]))", "failed steps"),
          Query("sum by (code) (rate(tuneloop_engine_requests_total[$__rate_interval]))", "{{code}}"), width=THIRD),
)

VLLM = (
    graph("vLLM: requests that run and wait", "A queue that lasts asks for another replica.",
          Query("sum by (instance) (vllm:num_requests_running)", "{{instance}} running"),
          Query("sum by (instance) (vllm:num_requests_waiting)", "{{instance}} waiting"), width=THIRD),
    graph("vLLM: KV cache", "Share that is in use. When it is full, requests are preempted and computed again.",
          Query("max by (instance) (vllm:kv_cache_usage_perc)", "{{instance}}"), unit="percentunit",
          lines=[Line(0.9, ORANGE)], width=THIRD),
    graph("vLLM: preemptions",
          "Per second. Any of them wastes work: give the cache more memory, or requests fewer tokens.",
          Query("sum by (instance) (rate(vllm:num_preemptions_total[$__rate_interval]))", "{{instance}}"), width=THIRD),
    graph("vLLM: tokens", "Per second, read and generated.",
          Query("sum(rate(vllm:prompt_tokens_total[$__rate_interval]))", "prompt"),
          Query("sum(rate(vllm:generation_tokens_total[$__rate_interval]))", "generated"), unit="tokens/s",
          width=THIRD),
    graph("vLLM: time to first token",
          "As the server measures it, all adapters together: median, and 95 of 100. By version it is the gateway's.",
          Query(_quantile(0.5, "vllm:time_to_first_token_seconds"), "p50"),
          Query(_quantile(0.95, "vllm:time_to_first_token_seconds"), "p95"), unit="s", width=THIRD),
    graph("vLLM: inter-token time", "As the server measures it, all adapters together: median, and 95 of 100.",
          Query(_quantile(0.5, "vllm:inter_token_latency_seconds"), "p50"),
          Query(_quantile(0.95, "vllm:inter_token_latency_seconds"), "p95"), unit="s", width=THIRD),
    graph("vLLM: queue", "How long requests wait before they are computed: median, and 95 of 100.",
          Query(_quantile(0.5, "vllm:request_queue_time_seconds"), "p50"),
          Query(_quantile(0.95, "vllm:request_queue_time_seconds"), "p95"), unit="s", width=THIRD),
    graph("vLLM: prefix cache", "Share of looked-up tokens that were there. It is cold for a new adapter.",
          Query("sum(rate(vllm:prefix_cache_hits_total[$__rate_interval])) / "
                "sum(rate(vllm:prefix_cache_queries_total[$__rate_interval]))",
                "hits"), unit="percentunit", width=THIRD),
    graph("vLLM: ended requests", "Per second, by why they ended.",
          Query("sum by (finished_reason) (rate(vllm:request_success_total[$__rate_interval]))", "{{finished_reason}}"),
          unit="reqps", width=THIRD),
)

PAGE = Page(
    "serving", "tuneloop / Serving",
    "Which adapters are where, how long they take to load, what model servers and gateways do.",
    "serving.md", [ROUTE, VERSION],
    [
        Section("Adapters on model servers", ADAPTERS), Section("Gateways", GATEWAY), Section("vLLM", VLLM),
        Section("Small engine", ENGINE, closed=True),
    ],
)
