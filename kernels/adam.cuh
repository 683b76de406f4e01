// Adam with bias correction, as src/train/adam.rs does it.

struct Adam {
    real scale, unbias, keep1, keep2, take1, take2, epsilon;
};

// The constants of a step, of whose two factors `rates` has those of all steps.
__device__ inline Adam adam_at(const double* rates, wide_word step, double beta1, double beta2, double epsilon) {
    return Adam{(real)rates[2 * step],  (real)rates[2 * step + 1], (real)beta1,  (real)beta2,
                (real)(1 - beta1), (real)(1 - beta2),         (real)epsilon};
}

// The new value.
__device__ inline real adam_update(const Adam& a, real w, real g, real* m, real* v) {
    const real first = a.keep1 * *m + a.take1 * g, second = a.keep2 * *v + a.take2 * g * g;
    *m = first;
    *v = second;
    return w - near_quotient(a.scale * first, near_sqrt(second * a.unbias) + a.epsilon);
}
