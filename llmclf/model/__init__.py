"""Pre-trained models: from a checkpoint to backbone and head, what of it learns, and saving it."""

import logging

# On a CPU it warns, when PEFT imports it, of a kernel for inference that we do not use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
