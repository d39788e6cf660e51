"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): articles of clothing beside a degraded view of each."""

from __future__ import annotations

from cmkd.datasets.mnist import IdxImages, idx_files


class FashionMnist(IdxImages):
    """70,000 articles of clothing, 28 x 28 pixels in gray, and a degraded view of each.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their number.

    The default degradation, sketch of severity 0.8, lowers a random forest's validation accuracy from 0.85 to
    0.73 (``benchmarks/degradation_gap.py``).
    """

    name = "fashion_mnist"
    mirror = True
    title = "Articles of clothing, 28 x 28, beside a degraded view"
    license = "MIT, (c) 2017 Zalando SE"
    citation = """@misc{xiao2017fashion, title={Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
  Algorithms}, author={Xiao, Han and Rasul, Kashif and Vollgraf, Roland}, year={2017}, eprint={1708.07747},
  archivePrefix={arXiv}}"""
    unsound = "Pictures of one article in several colors may lie in different splits."
    default = ("sketch", 0.8)
    classes = (
        "T-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    sources = idx_files(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )
