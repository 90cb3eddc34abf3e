"""Where each rule comes from: a paper, a measurement of this project's own, or practice that nobody measured here."""

from pydantic import BaseModel, ConfigDict


class Source(BaseModel):
    """A reason that can be looked up."""

    model_config = ConfigDict(frozen=True)

    title: str
    where: str


def _arxiv(number: str, title: str) -> Source:
    return Source(title=title, where=f"arXiv {number}")


LORA = _arxiv("2106.09685", "LoRA: Low-Rank Adaptation of Large Language Models")
QLORA = _arxiv("2305.14314", "QLoRA: Efficient Finetuning of Quantized LLMs")
DORA = _arxiv("2402.09353", "DoRA: Weight-Decomposed Low-Rank Adaptation")
RSLORA = _arxiv("2312.03732", "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA")
LEARNS_LESS = _arxiv("2405.09673", "LoRA Learns Less and Forgets Less")
LIMA = _arxiv("2305.11206", "LIMA: Less Is More for Alignment")
RETRIEVAL = _arxiv("2312.05934", "Fine-Tuning or Retrieval? Comparing Knowledge Injection in LLMs")
HALLUCINATE = _arxiv("2405.05904", "Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?")
FEW_SHOT = _arxiv("2005.14165", "Language Models are Few-Shot Learners")
REPEATED = _arxiv("2305.16264", "Scaling Data-Constrained Language Models")
RAG = _arxiv("2005.11401", "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks")
CHECKPOINTING = _arxiv("1604.06174", "Training Deep Nets with Sublinear Memory Cost")
REGRET = Source(title="LoRA Without Regret, Schulman et al. 2025", where="thinkingmachines.ai/blog/lora")
MEASURED = Source(title="measured here: SmolLM2-135M on six intents of banking77, 360 rows", where="make demo")
ESTIMATED = Source(title="this project's estimator", where="docs/advisor.md")
SAMPLES = Source(title="practice, around LIMA's 1,000 rows for 65B and 360 rows measured here for 135M",
                 where="arXiv 2305.11206, docs/advisor.md")
PRACTICE = Source(title="practice; measure it on your data", where="docs/advisor.md")
SERVED = Source(title="vLLM serves LoRA adapters alone", where="docs/serving.md")
ARITHMETIC = Source(title="arithmetic on the figures that were given", where="docs/advisor.md")
